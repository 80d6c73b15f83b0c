/**
 * Cleans up after a run of the tests: `node cleaner.mjs DIRECTORY`. Waits until its standard input is closed, which the kernel does when
 * the process of the run ends, killed or not. Then it ends every process that has a path below the directory among its arguments, and
 * removes the directory.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const directory = process.argv[2];
/** How long a server may take to stop by itself. */
const patienceMs = 5_000;

const processes = () =>
  readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(`${directory}/`);
    } catch {
      return false; // it has ended
    }
  });

const signal = (name) => {
  for (const pid of processes()) {
    try {
      process.kill(Number(pid), name);
    } catch {
      // It has ended.
    }
  }
};

process.stdin.resume();
process.stdin.on('end', async () => {
  // For PostgreSQL, Ceph and NATS alike: stop now, whoever is connected.
  signal('SIGINT');
  for (const end = performance.now() + patienceMs; processes().length > 0; await pause(20))
    if (performance.now() > end) signal('SIGKILL');
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});
