import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };

const lockFile = '/run/lock/m2-zfs-fuse-test';
const poolPrefix = 'm2test';

/** A pool in a file, with one dataset for a backend. */
export interface ZfsPool {
  dataset: string;
  /** Changes the pool without the backend; returns the output. */
  zfs(...args: string[]): Promise<string>;
  fill: { leave(freeBytes: number): Promise<void>; undo(): Promise<void> };
  /** Sends SIGKILL to the daemon that is the file system, and imports the pool with a new one: a power cut. */
  powerCut(): Promise<void>;
  destroy(): Promise<void>;
}

/** Why there can be no pool here, or undefined. */
export async function whyNoZfs(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'only root mounts datasets';
  // It ends with an error, but it starts.
  const started = await execute('zfs-fuse', ['--help'], { env, timeout: 10_000 }).catch((error: Error) => error);
  if ('code' in started && started.code === 'ENOENT') return 'zfs-fuse is not installed';
  const fuse = await access('/dev/fuse', constants.R_OK | constants.W_OK).catch((error: Error) => error);
  return fuse?.message;
}

/**
 * Waits until no other test uses zfs-fuse: its socket (/var/run/zfs/zfs_socket) exists once per machine. Call it where no test's timeout
 * runs. The lock is the kernel's, and ends with this process at the latest.
 */
export async function zfsFuseLock(): Promise<() => Promise<void>> {
  const holder = spawn('flock', [lockFile, 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(holder, 'close');
  holder.stdin.write('\n');
  await once(holder.stdout, 'data');
  return async () => {
    holder.stdin.end();
    await closed;
  };
}

/** Makes a pool of 1 GiB. Throws when somebody else's zfs-fuse runs on this machine. */
export async function startZfsPool(): Promise<ZfsPool> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'm2-zfs-')));
  const [medium, mountpoint] = [join(base, 'medium'), join(base, 'mounted')];
  // Names of pools are unique on a machine, too.
  const pool = `${poolPrefix}${process.pid}`;
  const dataset = `${pool}/m2`;
  const zfs = (...args: string[]) => run('zfs', ...args);
  let daemon: ChildProcess | undefined;
  const stop = async (signal: NodeJS.Signals) => {
    if (!daemon) return;
    const exited = daemon.exitCode === null && daemon.signalCode === null ? once(daemon, 'exit') : undefined;
    daemon.kill(signal);
    await exited;
    daemon = undefined;
    await unmountDead(({ path }) => path.startsWith(`${base}/`));
  };
  const destroy = async () => {
    if (daemon) await run('zpool', 'destroy', '-f', pool).catch(() => undefined);
    await stop('SIGKILL');
    await run('umount', '-l', mountpoint).catch(() => undefined);
    await rm(base, { recursive: true, force: true });
  };
  try {
    await mkdir(mountpoint);
    // A process that another test starts in a mount namespace of its own (`ip netns exec`) gets copies of all mounts. Below a shared mount these go
    // away together with ours; else the copies would keep a dataset busy for as long as that process lives.
    await run('mount', '--bind', mountpoint, mountpoint);
    await run('mount', '--make-shared', mountpoint);
    await run('truncate', '-s', '1G', medium);
    daemon = await startDaemon();
    // Keeps the pool out of the machine's list (`cachefile`). Only volumes are mounted: zfs-fuse deadlocks on mount points in its own file
    // systems.
    const options = ['-o', 'cachefile=none', '-O', 'canmount=off', '-O', 'atime=off', '-m', mountpoint];
    await run('zpool', 'create', ...options, pool, medium);
    await zfs('create', '-o', 'canmount=off', dataset);
  } catch (error) {
    await destroy();
    throw error;
  }
  return {
    dataset,
    zfs,
    fill: {
      leave: async (freeBytes) => {
        const ballast = `${pool}/ballast`;
        await zfs('create', '-p', '-o', 'canmount=off', ballast);
        await zfs('set', `refreservation=${(await available(zfs, pool)) - freeBytes}`, ballast);
      },
      undo: async () => void (await zfs('destroy', `${pool}/ballast`)),
    },
    powerCut: async () => {
      await stop('SIGKILL');
      daemon = await startDaemon();
      await run('zpool', 'import', '-d', base, '-o', 'cachefile=none', pool);
    },
    destroy,
  };
}

async function startDaemon(): Promise<ChildProcess> {
  await endLeftDaemon();
  if (await answers()) throw new Error('a zfs-fuse that no test started runs on this machine');
  const args = ['--no-daemon', '--no-kstat-mount', '--pidfile', lockFile];
  const daemon = spawn('zfs-fuse', args, { env, stdio: 'ignore', detached: true });
  for (const deadline = performance.now() + 20_000; !(await answers()); await pause(20)) {
    if (daemon.exitCode !== null) throw new Error(`zfs-fuse ended with ${daemon.exitCode}`);
    if (performance.now() > deadline) throw new Error('zfs-fuse does not answer');
  }
  return daemon;
}

/** Left by a test that was killed: we hold the lock, so nobody uses it. Its arguments show that it belongs to a test. */
async function endLeftDaemon(): Promise<void> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const [program, ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (program !== 'zfs-fuse' || !args.includes(lockFile)) continue;
    process.kill(Number(pid), 'SIGKILL');
    while ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== '') await pause(20);
    await unmountDead(({ source }) => source.startsWith(poolPrefix));
  }
}

/** Mounts of a dead daemon stay, and do not answer. */
async function unmountDead(which: (mount: { source: string; path: string }) => boolean): Promise<void> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => {
    const [source = '', path = ''] = line.split(' ');
    return { source, path };
  });
  for (const { path } of mounts.filter(which).toReversed()) await run('umount', '-l', path);
}

function answers(): Promise<boolean> {
  return run('zpool', 'list', '-H').then(
    () => true,
    () => false,
  );
}

async function available(zfs: ZfsPool['zfs'], dataset: string): Promise<number> {
  // `-p`: numbers are not rounded. `get` supports it everywhere.
  return Number((await zfs('get', '-H', '-p', '-o', 'value', 'available', dataset)).trim());
}

async function run(file: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(file, args, { env, timeout: 60_000, killSignal: 'SIGKILL' });
  return stdout;
}
