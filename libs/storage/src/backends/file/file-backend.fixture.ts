import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { mountsIn, StorageDaemon, unmountLazily } from '@m2/storage-daemon';

const run = promisify(execFile);

/** A directory for a test's state, and how to remove it. */
export interface TestPlace {
  directory: string;
  fill: { leave(freeBytes: number): Promise<void>; undo(): Promise<void> } | string;
  teardown(): Promise<void>;
}

/** Mounting a file system needs root. */
export const canMount = process.getuid?.() === 0;

/** A directory in the directory for temporary files. */
export async function temporaryPlace(): Promise<TestPlace> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'm2-file-')));
  const directory = join(base, 'state');
  return {
    directory,
    fill: 'filling a file system needs one of our own, and mounting it needs root',
    teardown: async () => {
      await endDaemon(directory);
      await rm(base, { recursive: true, force: true });
    },
  };
}

/** A directory on its own file system; root only. The loop device goes with the mount (`-o loop`: autoclear). */
export async function loopPlace(type: 'ext4' | 'xfs'): Promise<TestPlace> {
  const base = await realpath(await mkdtemp(join(tmpdir(), `m2-${type}-`)));
  const [medium, mountpoint] = [join(base, 'medium'), join(base, 'mounted')];
  const [directory, ballast] = [join(mountpoint, 'state'), join(mountpoint, 'ballast')];
  const teardown = async () => {
    await endDaemon(directory);
    await unmount(base, mountpoint);
    await rm(base, { recursive: true, force: true });
  };
  try {
    await mkdir(mountpoint);
    await run('truncate', ['-s', '512M', medium]);
    await run(`mkfs.${type}`, type === 'ext4' ? ['-q', '-m', '0', medium] : ['-q', '-m', 'reflink=1', medium]);
    await run('mount', ['-o', 'loop', '-t', type, medium, mountpoint]);
  } catch (error) {
    await teardown();
    throw error;
  }
  return {
    directory,
    fill: {
      leave: async (freeBytes) => {
        // The file system frees removed files in the background; freezing it waits for that.
        for (const way of ['--freeze', '--unfreeze']) await run('fsfreeze', [way, mountpoint]);
        const { bavail, bsize } = await statfs(mountpoint);
        await run('fallocate', ['-l', String(bavail * bsize - freeBytes), ballast]);
      },
      undo: () => rm(ballast, { force: true }),
    },
    teardown,
  };
}

/** Lazily detached FUSE mounts keep the file system below them busy until the kernel has dropped them. */
async function unmount(parent: string, mountpoint: string): Promise<void> {
  for (const deadline = performance.now() + 30_000; (await mountsIn(parent)).includes(mountpoint); await pause(20)) {
    await run('umount', [mountpoint]).catch((error: unknown) => {
      if (performance.now() > deadline) throw error;
    });
  }
}

/** Sends SIGKILL to the storage daemon of a state directory. */
export async function killDaemon(directory: string): Promise<void> {
  const who = await new StorageDaemon(directory).recorded();
  if (!who) throw new Error('no storage daemon is recorded');
  process.kill(who.pid, 'SIGKILL');
}

/** What a failed test left: the daemon and its mounts. */
async function endDaemon(directory: string): Promise<void> {
  await new StorageDaemon(directory).quit();
  await unmountLazily(await mountsIn(join(directory, 'attached')));
}
