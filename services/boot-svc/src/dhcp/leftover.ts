import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

/** Long enough for a dnsmasq that writes its leases to a slow disk. */
const PATIENCE_MS = 5000;

/**
 * Ends the dnsmasq with exactly this argument, which stays behind when its parent is killed. It would answer beside the new one,
 * with old answers. The argument names a directory of this service, so no other program's process has it.
 */
export async function endLeftover(argument: string): Promise<void> {
  for (const pid of await dnsmasqsWith(argument)) process.kill(pid, 'SIGTERM');
  for (const until = performance.now() + PATIENCE_MS; performance.now() < until; await pause(20)) {
    if ((await dnsmasqsWith(argument)).length === 0) return;
  }
  for (const pid of await dnsmasqsWith(argument)) process.kill(pid, 'SIGKILL');
}

/** The processes that are a dnsmasq with exactly this argument. */
export async function dnsmasqsWith(argument: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process may end while we look at it.
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      const [program = '', ...args] = line.split('\0');
      return program.endsWith('dnsmasq') && args.includes(argument) ? [Number(pid)] : [];
    }),
  );
  return found.flat();
}
