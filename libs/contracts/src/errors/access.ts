import { type ErrorKind, kind } from './kind.js';

/** Tokens, permissions and projects. */
export const accessErrors = {
  'auth.missing': kind(401, 'No credentials were sent', 'Send "Authorization: Bearer <token>", or run m2 login.'),
  'auth.invalid': kind(401, 'The token is not known, or was revoked', 'Ask an admin for a new token.'),
  'auth.forbidden': kind(
    403,
    'The token may not do this',
    'Use a token with the role that the detail names, or what belongs to the project.',
  ),
  'project.not_found': kind(404, 'There is no such project', 'List them with m2 project list.'),
  'project.exists': kind(409, 'A project has this name already', 'Choose another name.'),
  'project.not_empty': kind(
    409,
    'The project still has things in it',
    'Deprovision its nodes, delete its images and its disks (m2 disk delete --purge), and wait for its operations to end.',
  ),
  'token.not_found': kind(404, 'There is no such token', 'List them with m2 token list.'),
} as const satisfies Record<string, ErrorKind>;
