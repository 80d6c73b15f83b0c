import { type ErrorKind, kind } from './kind.js';

/** Booting. */
export const bootErrors = {
  'boot.config_not_found': kind(404, 'There is no such boot configuration', 'It may have been deleted.'),
  'boot.conflict': kind(409, 'The nic has a boot in progress', 'Wait for it, or deprovision the node.'),
  'boot.unsafe_value': kind(
    422,
    'A boot script cannot carry this value',
    'Use letters, digits, dots, dashes and underscores.',
  ),
  'boot.timeout': kind(
    504,
    'The node did not phone home in time',
    "Look at the node's console; then provision it again.",
  ),
} as const satisfies Record<string, ErrorKind>;
