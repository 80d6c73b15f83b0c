import { attached, notFound } from '../volume-errors.js';
import { StorageError } from '../../storage.port.js';
import type { DiskVolume, LongWork } from '../../storage.port.js';
import { copySnapshot, ensureNone } from './copy.js';
import { flatSnapshot as moment, readerSnapshot } from './datasets.js';
import type { Dataset } from './dataset.js';
import type { Datasets } from './datasets.js';
import { hasNoTags } from './disk-state.js';
import type { ZfsCommand } from './zfs-command.js';

/**
 * Makes a disk independent by a copy that takes its place (see DiskState). `zfs promote` would not do: it reverses the dependency, and the
 * golden volume would become the clone. Callers hold the disk's lock. Nobody has it attached, so nothing is written to it meanwhile.
 */
export async function flatten(zfs: ZfsCommand, datasets: Datasets, disk: DiskVolume, work: LongWork): Promise<void> {
  work.signal?.throwIfAborted();
  const { current, partial } = await datasets.disk(disk);
  if (!current?.sizeBytes) notFound(disk.name);
  if (current.origin !== undefined) {
    if (current.attached) throw attached(disk.name);
    assertNotRead(current);
    for (const { path } of partial) await ensureNone(zfs, path);
    await copyClone(zfs, current.path, current.sizeBytes, work);
  }
  const { current: flat, keeper } = await datasets.disk(disk);
  if (flat?.snapshots.has(moment)) await ensureNone(zfs, `${flat.path}@${moment}`);
  if (keeper) await settleKeeper(zfs, keeper);
  work.onProgress?.(current.sizeBytes, current.sizeBytes);
}

async function copyClone(zfs: ZfsCommand, path: string, sizeBytes: number, work: LongWork): Promise<void> {
  const [flat, snapshot] = [`${path}.flat`, `${path}@${moment}`];
  try {
    await ensureNone(zfs, snapshot);
    await zfs.run('snapshot', snapshot);
    await copySnapshot(zfs, { snapshot, sizeBytes }, `${flat}@${moment}`, work);
    // From here on the copy is the disk.
    await zfs.run('set', `m2:size=${sizeBytes}`, flat);
  } catch (error) {
    await ensureNone(zfs, flat).catch(() => undefined);
    await ensureNone(zfs, snapshot).catch(() => undefined);
    throw error;
  }
}

/** The clone that a flat disk was is removed with its last tag. */
export async function settleKeeper(zfs: ZfsCommand, keeper: Dataset): Promise<void> {
  if (hasNoTags(keeper)) await ensureNone(zfs, keeper.path);
  else if (keeper.snapshots.has(moment)) await ensureNone(zfs, `${keeper.path}@${moment}`);
}

/** A reader's snapshot of a disk without tags would keep its origin in use. */
function assertNotRead({ path, snapshots }: Dataset): void {
  if ([...snapshots.keys()].some((snapshot) => snapshot.startsWith(readerSnapshot))) {
    throw new StorageError('storage.in_use', `${path} is being read. Retry when that is done.`);
  }
}
