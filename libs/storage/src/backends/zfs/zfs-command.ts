import { type ChildProcess, execFile, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { withDeadline } from '../deadline.js';
import { zfsError } from './zfs-errors.js';

const deadlineMs = 30_000;
const busyMs = 5_000;

/** A stream that stands still for this long is ended. */
export const silenceMs = 60_000;

/** Messages are parsed, so they must be English. A service's PATH may lack the administrator's programs. */
const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

interface Outcome {
  ok: boolean;
  stdout: string;
  stderr: string;
}

/**
 * The program `zfs`, one process per command: the C library below it has no stable interface, and its ioctls change from release to
 * release. A command takes 10 to 40 ms, most of it the pool's own commit.
 */
export class ZfsCommand {
  private last: Promise<unknown> = Promise.resolve();

  /**
   * Runs one command and returns its output. Errors: those of `zfsError`, `storage.timeout` after 30 s.
   *
   * One at a time: a pool commits changes one after the other anyway, and the daemon of zfs-fuse deadlocks when it mounts and unmounts for
   * several commands at once.
   */
  async run(...args: string[]): Promise<string> {
    const { ok, stdout, stderr } = await this.patient(args);
    if (!ok) throw zfsError(args, stderr);
    return stdout;
  }

  /** Datasets and snapshots below `datasets`, as far as they exist: one per line, columns separated by tabs. */
  async list(columns: string, ...datasets: string[]): Promise<string[]> {
    const args = ['list', '-H', '-r', '-t', 'filesystem,snapshot', '-o', columns, ...datasets];
    const { ok, stdout, stderr } = await this.patient(args);
    const said = lines(stderr).filter((line) => !line.endsWith('dataset does not exist'));
    if (!ok && (said.length > 0 || stderr === '')) throw zfsError(args, stderr);
    return lines(stdout);
  }

  /** Returns what `zfs send` writes; the reader may stop at any time. Errors: those of `zfsError`, `storage.timeout`. */
  async *send(...args: string[]): AsyncGenerator<Buffer, void> {
    const sender = spawn('zfs', ['send', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = endOf(sender, ['send', ...args]);
    try {
      const chunks: AsyncIterator<Buffer> = sender.stdout[Symbol.asyncIterator]();
      for (;;) {
        const chunk = await withDeadline(chunks.next(), silenceMs, `send ${args.at(-1)}`);
        if (chunk.done) break;
        yield chunk.value;
      }
      await ended;
    } finally {
      // No signal: with zfs-fuse the daemon writes, and only a broken pipe stops it.
      sender.stdout.destroy();
      await gone(sender, ended);
    }
  }

  /**
   * `zfs receive` of a new dataset with that snapshot, which stays unmounted. A stream that ends early leaves nothing. `ended` waits for
   * the end of the process after that of `stdin`; errors: those of `zfsError`, `storage.timeout`.
   */
  receive(snapshot: string): { stdin: Writable; ended(): Promise<void> } {
    const args = ['receive', '-u', snapshot];
    const receiver = spawn('zfs', args, { env, stdio: ['pipe', 'ignore', 'pipe'] });
    const ended = endOf(receiver, args);
    return {
      stdin: receiver.stdin,
      ended: () => withDeadline(ended, silenceMs, `receive ${snapshot}`).finally(() => gone(receiver, ended)),
    };
  }

  /** A dataset that was just unmounted or sent is busy for some milliseconds. An open file is reported with other words, and at once. */
  private async patient(args: string[]): Promise<Outcome> {
    for (const begun = performance.now(); ; await pause(20)) {
      const outcome = await this.inTurn(() => execute(args, begun + deadlineMs - performance.now()));
      if (!outcome.stderr.includes('dataset is busy') || performance.now() - begun > busyMs) return outcome;
    }
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last.then(work);
    this.last = turn.catch(() => undefined);
    return turn;
  }
}

/** Rejects when the program is missing, or does not answer in time; time in the queue counts. */
function execute(args: string[], timeout: number): Promise<Outcome> {
  const options = {
    env,
    timeout: Math.max(1, Math.round(timeout)),
    killSignal: 'SIGKILL',
    maxBuffer: 2 ** 28,
  } as const;
  return new Promise((resolve, reject) => {
    execFile('zfs', args, options, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') {
        reject(zfsError(args, error.killed ? 'it timed out' : error.message));
      } else {
        resolve({ ok: !error, stdout, stderr });
      }
    });
  });
}

/** Settles when the process and its pipes are gone; rejects with `zfsError` unless the exit status is 0. */
function endOf(child: ChildProcess & { stderr: Readable }, args: string[]): Promise<void> {
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < 2 ** 16) said += text;
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (error) => reject(zfsError(args, error.message)));
    child.once('close', (status, signal) =>
      status === 0 ? resolve() : reject(zfsError(args, said || `it ended with ${signal ?? status}`)),
    );
  });
  // A reader that stops early does not look at it.
  ended.catch(() => undefined);
  return ended;
}

/** Waits for a process that has no more to do, but not for ever. */
async function gone(child: ChildProcess, ended: Promise<void>): Promise<void> {
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended.catch(() => undefined);
  clearTimeout(timer);
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
