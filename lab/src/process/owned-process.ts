import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * The processes that have one of `marks` among their arguments. Marks are absolute paths of files that only one lab
 * has, so this finds its processes whoever started them, and never a stranger that was given a used process id.
 * A zombie has no arguments left and is not found.
 */
export async function processesWith(marks: string[]): Promise<number[]> {
  const wanted = new Set(marks);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process that ends while we look has no file any more.
      const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
      return argv.some((argument) => wanted.has(argument));
    }),
  );
  return pids.filter((_, index) => found[index]).map(Number);
}

/** Sends a signal to every process that has one of `marks` among its arguments. */
export async function signalAll(marks: string[], signal: NodeJS.Signals): Promise<void> {
  for (const pid of await processesWith(marks)) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      // It ended between the look and the signal.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Kills every process that has one of `marks` among its arguments and waits until all are gone. Safe to repeat. */
export async function ensureNoProcessWith(marks: string[]): Promise<void> {
  const deadline = performance.now() + 10_000;
  // Again and again: one of them may have been about to start another.
  while ((await processesWith(marks)).length > 0) {
    if (performance.now() > deadline) throw new Error(`Processes with ${marks[0]} among their arguments do not die`);
    await signalAll(marks, 'SIGKILL');
    await delay(10);
  }
}
