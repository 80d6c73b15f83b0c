import { type ErrorKind, kind } from './kind.js';

/** Provisions. */
export const provisionsErrors = {
  'provision.not_found': kind(404, 'There is no such provision', 'List them with m2 provision list.'),
  'provision.ending': kind(
    409,
    'The provision is being changed by another operation',
    'Wait for that operation to end.',
  ),
} as const satisfies Record<string, ErrorKind>;
