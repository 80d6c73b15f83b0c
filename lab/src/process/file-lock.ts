import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { CommandFailed } from './run.js';

/**
 * Runs `work` while holding an exclusive lock on `file` (created when missing), among all processes of this machine.
 * The lock is the kernel's, held by a child `flock` that ends with our end of its pipe: it cannot outlive a crash.
 */
export async function withFileLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [file, 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const closed = once(holder, 'close');
  try {
    holder.stdin.on('error', () => {});
    // `cat` runs once the lock is ours, and says so by sending our byte back.
    holder.stdin.write('\n');
    const held = await Promise.race([once(holder.stdout, 'data').then(() => true), closed.then(() => false)]);
    if (!held) throw new CommandFailed('flock', 'ended without the lock', `cannot lock ${file}`);
    return await work();
  } finally {
    holder.stdin.end();
    await closed;
  }
}
