/** What `m2` exits with. Scripts depend on these numbers: they are never given another meaning. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  notAuthorised: 4,
  conflict: 5,
  unreachable: 6,
  needsAttention: 7,
  interrupted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export const exitCodeHelp = `Exit codes

  0    it is done
  1    the operation failed, was cancelled, or was refused, for example by the quota
  2    wrong usage: an unknown command, a missing or invalid value
  3    not found
  4    not authorised: no token, an unknown token, or one that may not do this
  5    conflict: a name is taken, or something is in use
  6    the service cannot be reached, or does not answer in time
  7    an operation needs attention: m2 operation show ID says what is left
  130  interrupted (Ctrl-C); an operation that was started goes on

The code is the same whether something was refused at once or in a later step of the operation.
`;

/** Codes that say "M2 itself does not answer", as opposed to a BMC or a storage behind it. */
const unreachable = new Set(['service.unavailable', 'request.deadline']);

/** The exit code for an error of the API. `status` is the HTTP status that the error has in the catalogue. */
export function exitCodeOf(status: number, code: string): ExitCode {
  if (unreachable.has(code)) return exitCodes.unreachable;
  if (code === 'request.invalid') return exitCodes.usage;
  // 403, but nothing is wrong with the token.
  if (code === 'quota.exceeded') return exitCodes.failed;
  if (code === 'operation.cancelled') return exitCodes.failed;
  if (status === 401 || status === 403) return exitCodes.notAuthorised;
  if (status === 404) return exitCodes.notFound;
  if (status === 409) return exitCodes.conflict;
  return exitCodes.failed;
}
