import { chmod } from 'node:fs/promises';
import { sourceSize, writeGolden } from '../image-file.js';
import { existsDifferently } from '../volume-errors.js';
import { asStorageError } from '../../storage.port.js';
import type { GoldenSource, LongWork } from '../../storage.port.js';
import { copySnapshot, ensureNone } from './copy.js';
import { goldenSnapshot } from './datasets.js';
import type { Datasets } from './datasets.js';
import type { ZfsCommand } from './zfs-command.js';

export type OwnSource = Exclude<GoldenSource, { foreign: string }>;

/** Finds or creates a golden volume; returns its size in bytes. Callers hold its lock. */
export async function makeGolden(
  zfs: ZfsCommand,
  datasets: Datasets,
  golden: string,
  source: OwnSource,
  work: LongWork,
): Promise<number> {
  const path = datasets.golden(golden);
  const existing = (await datasets.look(path)).get(path);
  const existingBytes = existing?.snapshots.get(goldenSnapshot);
  if (existingBytes !== undefined) {
    // An operation that is repeated after its import may have deleted the source. Then there is nothing to compare.
    const bytes = await sizeOf(datasets, source).catch(() => existingBytes);
    if (bytes !== existingBytes) throw existsDifferently(golden);
    return existingBytes;
  }
  work.signal?.throwIfAborted();
  const sizeBytes = await sizeOf(datasets, source);
  if (existing) await ensureNone(zfs, path);
  try {
    if ('path' in source) await importFile(zfs, datasets, path, source, sizeBytes, work);
    else await copyOrigin(zfs, datasets, path, source, work);
  } catch (error) {
    await ensureNone(zfs, path).catch(() => undefined);
    work.signal?.throwIfAborted();
    throw asStorageError(error, `make volume ${golden}`);
  }
  work.onProgress?.(sizeBytes, sizeBytes);
  return sizeBytes;
}

async function sizeOf(datasets: Datasets, source: OwnSource): Promise<number> {
  return 'path' in source ? sourceSize(source) : (await datasets.source(source)).sizeBytes;
}

async function importFile(
  zfs: ZfsCommand,
  datasets: Datasets,
  path: string,
  source: Extract<OwnSource, { path: string }>,
  sizeBytes: number,
  work: LongWork,
): Promise<void> {
  await zfs.run('create', path);
  await writeGolden(source, datasets.file(path), {
    ...work,
    onProgress: (done, total) => work.onProgress?.(Math.min(done, total - 1), total),
  });
  // Nobody can write to the snapshot. Its clones are written to by the user that the target runs as.
  await chmod(datasets.file(path), 0o600);
  await zfs.run('snapshot', '-o', `m2:size=${sizeBytes}`, `${path}@${goldenSnapshot}`);
}

async function copyOrigin(
  zfs: ZfsCommand,
  datasets: Datasets,
  path: string,
  source: Exclude<OwnSource, { path: string }>,
  work: LongWork,
): Promise<void> {
  const from = await datasets.source(source);
  await copySnapshot(zfs, from, `${path}@${goldenSnapshot}`, work);
  await zfs.run('set', `m2:size=${from.sizeBytes}`, `${path}@${goldenSnapshot}`);
}
