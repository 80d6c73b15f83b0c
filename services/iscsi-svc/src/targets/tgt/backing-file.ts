import { mountTable } from '@m2/storage-daemon';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { TargetError, type ExportSpec } from '../target.port.js';

const run = promisify(execFile);

/** How long storage may take to say whether a file is there. */
const DEADLINE_MS = 10_000;

/**
 * Checks the backing store before tgtd does. tgtd opens it on its only event loop, so storage that hangs would block all targets of the
 * pool; and where it may not write, it exports read-only without an error (usr/bs_rdwr.c, bs_rdwr_open). Opens it as tgtd will, in a
 * process that can be abandoned: a file of a hanging FUSE daemon would block a thread of ours for ever, and all file system calls of Node
 * share four; and one in a thread that we start ourselves would keep us from ending. The process costs us 1.6 ms of processor time per export, and a helper that is
 * kept would have to be watched and replaced as librbd's is. Throws `target.no_backing`.
 */
export async function checkBacking({ backing: { path }, readOnly }: ExportSpec): Promise<void> {
  const opened = [
    `if=${path}`,
    `of=${readOnly ? '/dev/null' : path}`,
    'count=0',
    'conv=notrunc,nocreat',
    'status=none',
  ];
  const env = { PATH: process.env['PATH'], LC_ALL: 'C' };
  try {
    // The deadline twice: a process that waits for a disk may not even die of SIGKILL.
    await inTime(run('dd', opened, { env, timeout: DEADLINE_MS, killSignal: 'SIGKILL' }));
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw noBacking(path, new Error(stderr?.trim() || message, { cause: error }));
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

/** The files that a process has open, and what is mounted, at one moment. Nothing here touches the files: those may hang. */
export interface OpenFiles {
  pid: number;
  /** The number of the descriptor, by the path that it was opened with. */
  descriptors: Map<string, string>;
  mounts: Map<string, number>;
}

export async function openFiles(pid: number): Promise<OpenFiles> {
  const descriptors = new Map<string, string>();
  const directory = `/proc/${pid}/fd`;
  for (const fd of existsSync(directory) ? readdirSync(directory) : []) {
    try {
      descriptors.set(readlinkSync(`${directory}/${fd}`), fd);
    } catch {
      // A connection that was closed since the directory was read.
    }
  }
  return { pid, descriptors, mounts: await mountTable() };
}

/**
 * True when the open file is the one that the path names now. It is not after the file was replaced, or after the daemon behind a FUSE file
 * died and came back: the LUN looks right then, and every read of it fails.
 */
export async function holdsFile({ pid, descriptors, mounts }: OpenFiles, path: string): Promise<boolean> {
  try {
    const mount = mounts.get(path);
    if (mount !== undefined) {
      // A file that is a mount itself, as FUSE exports are. Its mount identifies it without asking its daemon.
      const fd = descriptors.get(path);
      return fd !== undefined && (await mountOf(pid, fd)) === mount;
    }
    const fd = descriptors.get(await inTime(realpath(path)));
    if (fd === undefined) return false;
    const [held, named] = await inTime(Promise.all([stat(`/proc/${pid}/fd/${fd}`), stat(path)]));
    return held.dev === named.dev && held.ino === named.ino;
  } catch {
    return false;
  }
}

/** The ID of the mount that an open file is on (proc(5), /proc/PID/fdinfo). */
async function mountOf(pid: number, fd: string): Promise<number> {
  const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1');
  return Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
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
