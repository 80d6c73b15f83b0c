import { type ErrorKind, kind } from './kind.js';

/** What may happen to any request. */
export const requestErrors = {
  'request.invalid': {
    ...kind(400, 'The request is not valid', 'Correct what the detail names, and send it again.'),
    untouched: true,
  },
  'request.not_found': kind(404, 'There is no such path', 'See /v1/openapi.json for the paths that exist.'),
  'request.method_not_allowed': kind(405, 'The path exists, but not with this method', 'See /v1/openapi.json.'),
  'request.unsupported_media_type': kind(415, 'The body is not JSON', 'Send application/json.'),
  'request.too_large': kind(
    413,
    'The body is too large',
    'Send less; images are imported by reference, not in the body.',
  ),
  'request.answer_too_large': kind(
    500,
    'The answer is larger than one service can send to another',
    'Ask for less at a time, with a smaller limit; report it where there is none.',
  ),
  'request.too_many_streams': kind(
    429,
    'The token follows too many streams at the same time',
    'Close those that nobody reads, or follow fewer with a filter.',
  ),
  'request.deadline': kind(
    504,
    'The answer did not come in time',
    'Try again; the same Idempotency-Key is safe.',
    'transient',
  ),
  'idempotency.conflict': kind(
    409,
    'The Idempotency-Key was used with another request',
    'Use a new key for a new request.',
  ),
  'service.unavailable': kind(
    503,
    'A service does not answer',
    'Check m2 status, then try again; an operation goes on by itself.',
    'absent',
  ),
  internal: kind(500, 'Something went wrong inside M2', 'Look for the trace id in the logs, and report it.', 'bug'),
} as const satisfies Record<string, ErrorKind>;
