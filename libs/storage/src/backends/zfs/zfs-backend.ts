import { randomUUID } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { withDeadline } from '../deadline.js';
import { ownDirectory } from '../directory-owner.js';
import { attached, existsDifferently, notFound, noTag } from '../volume-errors.js';
import { Locks } from '@m2/locks';
import { probeStorage } from '../probe.js';
import { assertTag, assertVolumeName, asStorageError, StorageError } from '../../storage.port.js';
import type {
  BackingStore,
  DiskVolume,
  GoldenSource,
  LongWork,
  Origin,
  Readable,
  RemovedVolume,
  StorageBackend,
  VolumeInfo,
  VolumeReader,
} from '../../storage.port.js';
import { ensureNoEmpty, ensureNone } from './copy.js';
import { readerSnapshot } from './datasets.js';
import type { Dataset, Source } from './dataset.js';
import type { Datasets } from './datasets.js';
import type { DiskState } from './disk-state.js';
import { flatten, settleKeeper } from './flatten.js';
import { makeGolden } from './golden.js';
import { openDatasets } from './open-datasets.js';
import { SnapshotReader } from './snapshot-reader.js';
import { ZfsCommand } from './zfs-command.js';

/**
 * Volumes as raw files, each in its own dataset below one dataset: a clone is `zfs clone`, a tag is `zfs snapshot`. The datasets and their
 * user properties are the only record (see Datasets). Record size, compression and quota are the dataset's, as the administrator set them.
 * On Linux only root can use it, because only root may mount.
 *
 * Each change is one command of `zfs`, and so one commit of the pool, done or not. Operations on one volume wait for each other. Between a
 * volume and its clones ZFS itself decides, and says that there are dependent clones.
 */
export class ZfsBackend implements StorageBackend {
  readonly name = 'zfs';
  private readonly locks = new Locks();
  /** The projects that are known to have their dataset. */
  private readonly projects = new Set<string>();
  private probing: Promise<void> | undefined;

  private constructor(
    private readonly zfs: ZfsCommand,
    private readonly datasets: Datasets,
    private readonly owner: { release(): Promise<void> },
  ) {}

  /**
   * Opens or creates what is below `dataset`, and removes what calls of a killed process left there. Errors: `storage.misconfigured`,
   * `storage.in_use` (by another process), and those of `zfs`.
   */
  static async open(options: { dataset: string }): Promise<ZfsBackend> {
    const zfs = new ZfsCommand();
    const { datasets, owner } = await openDatasets(zfs, options.dataset, ownDirectory);
    return new ZfsBackend(zfs, datasets, owner);
  }

  async ensureGolden(golden: string, source: GoldenSource, work: LongWork = {}): Promise<VolumeInfo> {
    assertVolumeName(golden);
    if ('foreign' in source) throw unsupported();
    if (!('path' in source)) assertOrigin(source);
    return this.locks.exclusive(this.datasets.golden(golden), async () => {
      const sizeBytes = await makeGolden(this.zfs, this.datasets, golden, source, work);
      return { name: golden, project: null, kind: 'golden', sizeBytes, tags: [] };
    });
  }

  async ensureClone(origin: Origin, disk: DiskVolume, options: { sizeBytes?: number } = {}): Promise<VolumeInfo> {
    assertOrigin(origin);
    return this.exclusive(disk, async () => {
      const { current, partial, tags } = await this.datasets.disk(disk);
      const from = await this.datasets.source(origin).catch((error: unknown) => {
        // The origin of a flat disk may be gone.
        if (current && !current.origin) return undefined;
        throw error;
      });
      const sizeBytes = options.sizeBytes ?? from?.sizeBytes ?? current?.sizeBytes ?? 0;
      const info = { name: disk.name, project: disk.project, kind: 'disk' as const, sizeBytes, tags: [...tags.keys()] };
      if (current) {
        if (current.sizeBytes === sizeBytes && [undefined, from?.snapshot].includes(current.origin)) return info;
        throw existsDifferently(disk.name);
      }
      if (!from) throw notFound(disk.name);
      assertSize(sizeBytes, from.sizeBytes);
      for (const { path } of partial) await ensureNone(this.zfs, path);
      const project = this.datasets.project(disk.project);
      await this.locks.shared(project, async () => {
        if (!this.projects.has(project)) await this.zfs.run('create', '-p', '-o', 'canmount=off', project);
        this.projects.add(project);
        await this.zfs.run('clone', '-o', `m2:size=${sizeBytes}`, from.snapshot, this.datasets.clone(disk));
      });
      return info;
    });
  }

  async ensureTag(disk: DiskVolume, tag: string): Promise<void> {
    assertTag(tag);
    await this.exclusive(disk, async () => {
      const { path, sizeBytes, tags } = await this.found(disk);
      if (!tags.has(tag)) await this.zfs.run('snapshot', '-o', `m2:size=${sizeBytes}`, `${path}@${tag}`);
    });
  }

  async ensureNoTag(disk: DiskVolume, tag: string): Promise<void> {
    assertTag(tag);
    await this.exclusive(disk, async () => {
      const source = (await this.datasets.disk(disk)).tags.get(tag);
      if (source) await ensureNone(this.zfs, source.snapshot);
      const { keeper } = await this.datasets.disk(disk);
      if (keeper) await settleKeeper(this.zfs, keeper);
    });
  }

  async ensureSize(disk: DiskVolume, sizeBytes: number): Promise<void> {
    await this.exclusive(disk, async () => {
      const found = await this.found(disk);
      assertSize(sizeBytes, found.sizeBytes);
      if (found.sizeBytes === sizeBytes) return;
      if (found.attached) throw attached(disk.name);
      await this.zfs.run('set', `m2:size=${sizeBytes}`, found.path);
    });
  }

  async ensureFlat(disk: DiskVolume, work: LongWork = {}): Promise<void> {
    await this.exclusive(disk, () => flatten(this.zfs, this.datasets, disk, work));
  }

  async ensureNoGolden(golden: string): Promise<void> {
    assertVolumeName(golden);
    const path = this.datasets.golden(golden);
    await this.locks.exclusive(path, () => ensureNone(this.zfs, path));
  }

  async ensureNoDisk(disk: DiskVolume): Promise<void> {
    await this.exclusive(disk, async () => {
      const { current, keeper, partial } = await this.datasets.disk(disk);
      if (current?.attached) throw attached(disk.name);
      if (current && keeper) await this.assertNoClones(disk.name, [current, keeper]);
      // The flat dataset last: without it the former clone would become the disk again.
      for (const dataset of [...partial, keeper, current]) if (dataset) await ensureNone(this.zfs, dataset.path);
    });
  }

  async ensureAttached(disk: DiskVolume): Promise<BackingStore> {
    return this.exclusive(disk, async () => {
      const found = await this.found(disk);
      // The mark is set first, and stays when the rest fails: what may be attached must not be removed.
      if (!found.attached) await this.zfs.run('set', 'm2:attached=on', found.path);
      if (!found.mounted) await this.zfs.run('mount', found.path);
      const path = this.datasets.file(found.path);
      await grow(path, found.sizeBytes).catch((error: unknown) => {
        throw asStorageError(error, `attach ${disk.name}`);
      });
      return { type: 'file', path };
    });
  }

  async ensureDetached(disk: DiskVolume): Promise<void> {
    await this.exclusive(disk, async () => {
      const { current } = await this.datasets.disk(disk);
      if (current?.attached) await this.zfs.run('inherit', 'm2:attached', current.path);
    });
  }

  async openReader(readable: Readable): Promise<VolumeReader> {
    if ('golden' in readable || 'tag' in readable) {
      assertOrigin(readable);
      return this.reader(readable, await this.datasets.source(readable), false);
    }
    return this.exclusive(readable.disk, async () => {
      const { path, sizeBytes } = await this.found(readable.disk);
      const snapshot = `${path}@${readerSnapshot}${randomUUID()}`;
      await this.zfs.run('snapshot', snapshot);
      return this.reader(readable, { snapshot, sizeBytes }, true);
    });
  }

  /** This backend has none. */
  async ensureNoForeign(): Promise<void> {}

  async copyToForeign(): Promise<void> {
    throw unsupported();
  }

  /** None: ZFS frees the blocks of what was destroyed by itself (zpool-features(7), async_destroy). */
  async removed(): Promise<RemovedVolume[]> {
    return [];
  }

  onRemoved(): void {}

  async ensureFreed(): Promise<void> {}

  async ensureNoProject(project: string): Promise<void> {
    const path = this.datasets.project(project);
    await this.locks.exclusive(path, async () => {
      await ensureNoEmpty(this.zfs, path);
      this.projects.delete(path);
    });
  }

  list(): Promise<VolumeInfo[]> {
    return this.datasets.infos();
  }

  async health(): Promise<void> {
    // One probe at a time: on a dead pool each would block one of the few threads for file calls.
    const directory = this.datasets.directory(this.datasets.health);
    this.probing ??= probeStorage(directory).finally(() => (this.probing = undefined));
    await withDeadline(this.probing, 5_000, `write to ${directory}`);
    await this.zfs.run('list', '-H', '-o', 'name', this.datasets.root);
  }

  /** Never happens: an attached volume needs only the file system, and when that is gone, so is this machine. */
  onAttachmentsLost(): void {}

  close(): Promise<void> {
    return this.owner.release();
  }

  private exclusive<T>(disk: DiskVolume, work: () => Promise<T>): Promise<T> {
    return this.locks.exclusive(this.datasets.clone(disk), work);
  }

  /** Error `storage.not_found`. */
  private async found(disk: DiskVolume): Promise<Dataset & { sizeBytes: number } & Pick<DiskState, 'tags'>> {
    const { current, tags } = await this.datasets.disk(disk);
    if (current?.sizeBytes === undefined) return notFound(disk.name);
    return { ...current, sizeBytes: current.sizeBytes, tags };
  }

  private reader(readable: Readable, source: Source, temporary: boolean): Promise<SnapshotReader> {
    const older = async (tag: string) => {
      if ('golden' in readable) return noTag(readable.golden, tag);
      const { tags } = await this.datasets.disk(readable.disk);
      return tags.get(tag)?.snapshot ?? noTag(readable.disk.name, tag);
    };
    return SnapshotReader.open(this.zfs, this.datasets, source, { older, temporary });
  }

  /** `zfs destroy` checks for itself, but only one of the two: the other may be gone by then. */
  private async assertNoClones(disk: string, of: Dataset[]): Promise<void> {
    const paths = new Set(of.map(({ path }) => path));
    const clone = (await this.datasets.clones()).find(({ origin }) => paths.has(origin.split('@')[0] ?? ''));
    if (clone) {
      throw new StorageError(
        'storage.in_use',
        `Tags of disk ${disk} have clones, ${clone.path} for one. Remove them first.`,
      );
    }
  }
}

function assertOrigin(origin: Origin): void {
  if ('golden' in origin) return assertVolumeName(origin.golden);
  assertVolumeName(origin.disk.name);
  assertTag(origin.tag);
}

function assertSize(sizeBytes: number, least: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes % 512 !== 0 || sizeBytes < least) {
    throw new StorageError(
      'storage.bad_size',
      `A disk cannot have ${sizeBytes} bytes. Ask for a multiple of 512 from ${least} on.`,
    );
  }
}

/** Makes a disk's file as long as the disk. */
async function grow(path: string, sizeBytes: number): Promise<void> {
  if ((await stat(path)).size === sizeBytes) return;
  const file = await open(path, 'r+');
  try {
    await file.truncate(sizeBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

function unsupported(): StorageError {
  return new StorageError(
    'storage.unsupported',
    'ZFS storage knows no volumes of others. Export the image as a file, and import from a file.',
  );
}
