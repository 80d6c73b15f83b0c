import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ensureNoProcessWith, processesWith, signalAll } from '../process/owned-process.js';
import { toolEnvironment } from '../process/run.js';
import { daemonIds, type DaemonName, type Layout } from './layout.js';

/** The environment of Ceph's programs. A CEPH_ARGS that the user has set is meant for another cluster. */
export const cephEnvironment = { CEPH_ARGS: '', CEPH_CONF: '' };

/** An argument that only this cluster's daemon has; a program that merely works in its directory does not. */
export const dataArgument = (layout: Layout, name: DaemonName): string => `--${name}-data=${layout[name]}`;

/** Undefined when it does not run. */
export const daemonPid = async (layout: Layout, name: DaemonName): Promise<number | undefined> =>
  (await processesWith([dataArgument(layout, name)]))[0];

/** Starts a daemon in its own session, without waiting until it works. Returns false when it ran already. */
export async function ensureDaemon(layout: Layout, name: DaemonName): Promise<boolean> {
  if ((await daemonPid(layout, name)) !== undefined) return false;
  const args = ['--conf', layout.clusterConf, '-i', daemonIds[name], '-f', dataArgument(layout, name)];
  const log = await open(outputFile(layout, name), 'w', 0o600);
  try {
    const daemon = spawn(`ceph-${name}`, args, {
      detached: true,
      cwd: '/',
      env: { ...toolEnvironment(), ...cephEnvironment },
      stdio: ['ignore', log.fd, log.fd],
    });
    await once(daemon, 'spawn');
    daemon.unref();
  } finally {
    await log.close();
  }
  return true;
}

/** Waits until a daemon does what `works` looks for; throws when it ends, or after a minute. */
export async function untilDaemon(layout: Layout, name: DaemonName, works: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 60_000; !(await works()); await delay(20)) {
    if ((await daemonPid(layout, name)) === undefined) throw await cannotWork(layout, name, 'ended');
    if (performance.now() > deadline) throw await cannotWork(layout, name, 'does not work after a minute');
  }
}

/** Stops a daemon by SIGTERM, and kills it when it still runs after 15 s. Safe to repeat. */
export async function ensureNoDaemon(layout: Layout, name: DaemonName): Promise<void> {
  const mark = [dataArgument(layout, name)];
  await signalAll(mark, 'SIGTERM');
  await signalAll(mark, 'SIGCONT');
  for (const deadline = performance.now() + 15_000; performance.now() < deadline; await delay(10))
    if ((await processesWith(mark)).length === 0) return;
  await ensureNoProcessWith(mark);
}

/** What a daemon prints before it opens its log, and when it crashes. */
const outputFile = (layout: Layout, name: DaemonName) => join(layout.logs, `${name}.out`);

async function cannotWork(layout: Layout, name: DaemonName, how: string): Promise<Error> {
  const said = await readFile(outputFile(layout, name), 'utf8').catch(() => '');
  const message = `ceph-${name} ${how}; it said: ${said.trim().slice(-1000) || 'nothing'}. Its log is in ${layout.logs}.`;
  return Object.assign(new Error(message), { code: 'lab.ceph_not_ready' });
}
