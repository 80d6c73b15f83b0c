import { errorCatalogue, isErrorCode, type M2Error, type Operation, toProblem } from '@m2/contracts';
import { type ExitCode, exitCodeOf, exitCodes } from './exit-codes.js';

interface CliErrorFields {
  /** Stable: of the catalogue where the API said it, `cli.…` where the command line found it by itself. */
  code: string;
  title: string;
  detail: string;
  remedy: string;
  exitCode: ExitCode;
}

/** Everything that ends a command with a message: what is wrong, and what to do next. */
export class CliError extends Error {
  override readonly name: string = 'CliError';
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly remedy: string;
  readonly exitCode: ExitCode;

  constructor(fields: CliErrorFields, options?: ErrorOptions) {
    super(`${fields.code}: ${fields.detail}`, options);
    this.code = fields.code;
    this.title = fields.title;
    this.detail = fields.detail;
    this.remedy = fields.remedy;
    this.exitCode = fields.exitCode;
  }
}

/** The API refused: its problem details (RFC 9457). */
export class ApiError extends CliError {
  override readonly name = 'ApiError';

  constructor(
    readonly status: number,
    fields: Omit<CliErrorFields, 'exitCode'>,
    readonly about?: Record<string, unknown>,
    readonly traceId?: string,
  ) {
    super({ ...fields, exitCode: exitCodeOf(status, fields.code) });
  }
}

/** What the gateway would refuse, found before it was asked. */
export function refusedWith(error: M2Error): ApiError {
  const { status, about, ...problem } = toProblem(error);
  return new ApiError(status, problem, about);
}

/** No answer: nothing listens there, or the connection broke, more often than we try. */
export class UnreachableError extends CliError {
  override readonly name = 'UnreachableError';

  constructor(url: string, cause: unknown) {
    const fields = {
      code: 'cli.unreachable',
      title: 'M2 does not answer',
      detail: `${new URL(url).origin}: ${reason(cause)}`,
      remedy: 'Check that it runs (m2 status) and that the address is right (--url, M2_URL or m2 login).',
      exitCode: exitCodes.unreachable,
    };
    super(fields, { cause });
  }
}

const seeHelp = 'See m2 help.';

/** The command line was used wrongly. Without a remedy of its own, it says where the help for the command is: see `inCommand`. */
export const usageError = (detail: string, remedy = seeHelp) =>
  new CliError({ code: 'cli.usage', title: 'Wrong usage', detail, remedy, exitCode: exitCodes.usage });

/** What a command failed with, as `disk create` is told of it: a remedy that says no more than `See m2 help.` names the command. */
export function inCommand(path: string, error: unknown): unknown {
  if (!(error instanceof CliError) || error.code !== 'cli.usage' || !error.remedy.endsWith(seeHelp)) return error;
  return usageError(error.detail, error.remedy.replace(seeHelp, `See ${['m2 help', path].filter(Boolean).join(' ')}.`));
}

/** An answer that the API never gives: another program, or a version that does not fit. */
export const protocolError = (detail: string, cause?: unknown) =>
  new CliError(
    {
      code: 'cli.protocol',
      title: 'The answer is not one of M2',
      detail,
      remedy: 'Check that the address is that of an M2 gateway, and of the same version.',
      exitCode: exitCodes.failed,
    },
    { cause },
  );

/** How an operation that did not succeed ends the command that waited for it. */
export function operationError(operation: Operation): CliError {
  const { code, detail } = operation.error ?? { code: 'internal', detail: `it ended as ${operation.state}` };
  if (operation.state === 'needs_attention') {
    return new CliError({
      code,
      title: `The operation ${operation.kind} needs attention`,
      detail: operation.attention ?? detail,
      remedy: `Fix the cause, then m2 operation resume ${operation.id}.`,
      exitCode: exitCodes.needsAttention,
    });
  }
  if (operation.state === 'cancelled') {
    return new CliError({
      code: 'operation.cancelled',
      title: errorCatalogue['operation.cancelled'].title,
      detail: `what ${operation.kind} had done was undone`,
      remedy: errorCatalogue['operation.cancelled'].remedy,
      exitCode: exitCodes.failed,
    });
  }
  const kind = errorCatalogue[isErrorCode(code) ? code : 'internal'];
  return new CliError({
    code,
    title: kind.title,
    detail,
    remedy: kind.remedy,
    exitCode: exitCodeOf(kind.status, code),
  });
}

/** `fetch` hides what happened in a chain of causes. */
function reason(error: unknown): string {
  const { code, message, cause } = (error ?? {}) as { code?: unknown; message?: unknown; cause?: unknown };
  if (cause !== undefined) return reason(cause);
  if (code === 'ECONNREFUSED') return 'connection refused';
  return typeof message === 'string' && message !== '' ? message : String(code ?? error);
}
