import { type ErrorKind, kind } from './kind.js';

/** Operations. */
export const operationsErrors = {
  'operation.not_found': kind(404, 'There is no such operation', 'List them with m2 operation list.'),
  'operation.not_cancellable': kind(
    409,
    'The operation cannot be cancelled now',
    'See its state with m2 operation show; what has ended is undone by its opposite.',
  ),
  'operation.not_resumable': kind(
    409,
    'The operation does not wait for a person',
    'See its state with m2 operation show.',
  ),
  'operation.step_not_skippable': kind(
    409,
    'The step cannot be left out',
    'See the stuck steps with m2 operation show; fix the cause and resume, or abandon the operation.',
  ),
  'operation.cancelled': kind(409, 'The operation was cancelled', 'Start it again when it is wanted.'),
  'fence.stale': kind(409, 'A newer runner has taken over the operation', 'Nothing: the newer runner finishes it.'),
} as const satisfies Record<string, ErrorKind>;
