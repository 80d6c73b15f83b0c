import type { App } from './app.js';
import { CliError, usageError } from './errors.js';
import { exitCodes } from './exit-codes.js';
import { canAsk, confirm } from './prompt.js';

export interface DestroyOptions {
  yes?: boolean;
  dryRun?: boolean;
}

/** What would be destroyed, and what keeps it from being destroyed. */
export interface Doomed {
  /** What is done to it; `delete` unless told otherwise. */
  verb?: string;
  /** `disk web-1 (20 GiB) and its data` */
  what: string;
  /** Sentences about what else comes of it. */
  consequences?: string;
  object: unknown;
  /** `provision 0198…`, `disk web-1`: each makes the API refuse. */
  usedBy: string[];
}

/**
 * Asks before something is lost. Returns false when nothing is to be done: it was a dry run. Without a person to ask, `--yes` is
 * needed; a person who says no ends the command as refused.
 */
export async function mayDestroy(app: App, options: DestroyOptions, look: () => Promise<Doomed>): Promise<boolean> {
  if (options.yes && !options.dryRun) return true;
  if (!options.dryRun && !canAsk(app.world)) {
    throw usageError(
      'this asks before it does anything, and nobody is there to answer',
      'Give --yes, or see with --dry-run what would happen.',
    );
  }
  const { verb = 'delete', ...doomed } = await look();
  if (options.dryRun) {
    app.print({ dryRun: true, ...doomed }, ({ what, consequences, usedBy }) => {
      const blocked = usedBy.map((user) => `  used by ${user}\n`).join('');
      return usedBy.length > 0
        ? `would be refused: ${what}\n${blocked}`
        : `would ${verb} ${what}${consequences ? `. ${consequences}` : ''}\n`;
    });
    return false;
  }
  const question = `${verb.charAt(0).toUpperCase()}${verb.slice(1)} ${doomed.what}?`;
  if (await confirm(app.world, doomed.consequences ? `${question} ${doomed.consequences}` : question)) return true;
  throw new CliError({
    code: 'cli.declined',
    title: 'Nothing was done',
    detail: '',
    remedy: '',
    exitCode: exitCodes.failed,
  });
}
