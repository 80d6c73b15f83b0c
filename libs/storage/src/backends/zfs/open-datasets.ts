import { StorageError } from '../../storage.port.js';
import { ensureNone } from './copy.js';
import { Datasets, flatSnapshot, readerSnapshot } from './datasets.js';
import { diskOf } from './disk-state.js';
import { settleKeeper } from './flatten.js';
import type { ZfsCommand } from './zfs-command.js';

export interface Owner {
  release(): Promise<void>;
}

/**
 * Creates or finds a backend's datasets, takes them for this process (`own`, by a directory), and removes what calls and readers of a
 * killed process left. Partial volumes stay, because they are listed. Errors: `storage.misconfigured`, and those of `own` and `zfs`.
 */
export async function openDatasets(
  zfs: ZfsCommand,
  root: string,
  own: (directory: string) => Promise<Owner>,
): Promise<{ datasets: Datasets; owner: Owner }> {
  const datasets = new Datasets(zfs, root, await mountpointOf(zfs, root));
  // Not mounted: zfs-fuse deadlocks on mount points in one of its own file systems.
  for (const path of datasets.containers) await zfs.run('create', '-p', '-o', 'canmount=off', path);
  await zfs.run('create', '-p', datasets.health);
  const health = (await datasets.look(datasets.health)).get(datasets.health);
  if (!health?.mounted) await zfs.run('mount', datasets.health);
  const owner = await own(datasets.directory(datasets.health));
  try {
    await sweep(zfs, datasets);
    return { datasets, owner };
  } catch (error) {
    await owner.release();
    throw error;
  }
}

async function mountpointOf(zfs: ZfsCommand, root: string): Promise<string> {
  // The name becomes an argument: it must not be an option or a snapshot.
  if (!/^[a-zA-Z][\w.:-]*(\/[\w.:-]+)*$/.test(root)) throw misconfigured(root, 'is no name of a dataset');
  const output = await zfs.run('get', '-H', '-o', 'value', 'type,mountpoint', root).catch((error: unknown) => {
    if (error instanceof StorageError && error.code === 'storage.not_found')
      throw misconfigured(root, 'does not exist');
    throw error;
  });
  const [type, mountpoint = ''] = output.trim().split('\n');
  if (type !== 'filesystem') throw misconfigured(root, 'is no file system');
  if (!mountpoint.startsWith('/')) throw misconfigured(root, `has the mount point "${mountpoint}"`);
  return mountpoint;
}

async function sweep(zfs: ZfsCommand, datasets: Datasets): Promise<void> {
  const all = await datasets.look(datasets.root);
  // The readers' clones first, because they use the snapshots.
  for (const path of all.keys()) {
    if (path.startsWith(datasets.reader(''))) await leftIfInUse(ensureNone(zfs, path));
  }
  for (const { path, snapshots } of all.values()) {
    for (const name of snapshots.keys()) {
      if (name === flatSnapshot || name.startsWith(readerSnapshot))
        await leftIfInUse(ensureNone(zfs, `${path}@${name}`));
    }
    if (!path.endsWith('.flat')) continue;
    const { current, keeper } = diskOf(path.slice(0, -'.flat'.length), all);
    if (keeper) await leftIfInUse(settleKeeper(zfs, keeper));
    if (current?.path !== path) await leftIfInUse(ensureNone(zfs, path));
  }
}

/** What somebody still reads is left for the next start, and is no reason to fail. */
async function leftIfInUse(removed: Promise<void>): Promise<void> {
  try {
    await removed;
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== 'storage.in_use') throw error;
  }
}

function misconfigured(root: string, what: string): StorageError {
  return new StorageError(
    'storage.misconfigured',
    `Dataset ${root} ${what}. Make a file system for M2, e.g. "zfs create -o mountpoint=/srv/m2 pool/m2".`,
  );
}
