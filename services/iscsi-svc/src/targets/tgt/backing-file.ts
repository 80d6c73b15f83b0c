import { constants, existsSync, readdirSync, readlinkSync } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { TargetError, type ExportSpec } from '../target.port.js';

/** How long storage may take to say whether a file is there. */
const DEADLINE_MS = 10_000;

/**
 * Looks at the backing store before tgtd does: tgtd opens it on its only event loop, so storage that hangs would stop all
 * targets of the pool; and where it may not write it exports read-only without a word (usr/bs_rdwr.c, bs_rdwr_open).
 * Throws `target.no_backing`.
 */
export async function checkBacking({ backing, readOnly }: ExportSpec): Promise<void> {
  const mode = readOnly ? constants.R_OK : constants.R_OK | constants.W_OK;
  try {
    await inTime(access(backing.path, mode));
  } catch (error) {
    throw noBacking(backing.path, error);
  }
}

export function noBacking(path: string, cause: unknown): TargetError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new TargetError(
    'target.no_backing',
    `the backing store ${path} cannot be opened: check that it is there and that iscsi-svc may read and write it (${why})`,
    { cause },
  );
}

/** The paths that a process has open, each with its entry in /proc/PID/fd. Never touches the files: those may hang. */
export function openFiles(pid: number): Map<string, string> {
  const files = new Map<string, string>();
  const directory = `/proc/${pid}/fd`;
  for (const fd of existsSync(directory) ? readdirSync(directory) : []) {
    try {
      files.set(readlinkSync(`${directory}/${fd}`), `${directory}/${fd}`);
    } catch {
      // A connection that was closed since the directory was read.
    }
  }
  return files;
}

/**
 * True when the file that is open is the one that the path names now. It is not after the file was replaced, or after the
 * daemon behind a FUSE file died and came back: the LUN looks right then, and every read of it fails.
 */
export async function holdsFile(files: Map<string, string>, path: string): Promise<boolean> {
  try {
    const entry = files.get(await inTime(realpath(path)));
    if (!entry) return false;
    const [held, named] = await inTime(Promise.all([stat(entry), stat(path)]));
    return held.dev === named.dev && held.ino === named.ino;
  } catch {
    return false;
  }
}

async function inTime<Result>(work: Promise<Result>): Promise<Result> {
  const timer = new AbortController();
  const tooLate = delay(DEADLINE_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`no answer within ${DEADLINE_MS} ms`);
  });
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    tooLate.catch(() => undefined);
    timer.abort();
  }
}
