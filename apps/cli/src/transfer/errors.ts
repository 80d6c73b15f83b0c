import { CliError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';

/** A file of this machine that cannot be read or written. */
export const fileError = (path: string, cause: unknown) =>
  new CliError(
    {
      code: 'cli.file',
      title: 'The file cannot be used',
      detail: `${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
      remedy: 'Check its path, its rights, and the space that is left.',
      exitCode: exitCodes.failed,
    },
    { cause },
  );

/** The connection broke more often than we try. */
export const brokenTransfer = (cause: unknown) =>
  new CliError(
    {
      code: 'cli.broken_transfer',
      title: 'The transfer broke off',
      detail: cause instanceof Error ? cause.message : String(cause),
      remedy: 'Run the same command again; where it can, it goes on from where it stopped.',
      exitCode: exitCodes.unreachable,
    },
    { cause },
  );
