import { mkdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { withDeadline } from '../deadline.js';
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
import { AttachmentMarks } from './attachment-marks.js';
import { originId } from './catalog.js';
import type { Catalog, Format } from './catalog.js';
import { ownDirectory } from '../directory-owner.js';
import { DiskLayers, layout } from './disk-layers.js';
import { unsupported } from './unsupported.js';
import { attached, notFound } from '../volume-errors.js';
import { Locks } from '@m2/locks';
import { OverlayAttachments } from './overlay-attachments.js';
import type { OverlayFiles } from './overlay-disk.js';
import { probeStorage } from '../probe.js';
import { canReflink } from './reflink.js';
import { VolumeFiles } from './volume-files.js';
import { info, VolumeMaker } from './volume-maker.js';
import { assertOrigin, VolumeReaders } from './volume-readers.js';

/**
 * Volumes as files in one directory of one machine: the default.
 *
 * Where the file system shares extents (XFS, btrfs), a clone is a reflinked raw file, and a target opens that file. Elsewhere it is a qcow2
 * overlay, and a target opens the raw file that the storage daemon shows. A clone keeps the format that it was made in, so a directory that
 * was moved to another file system may hold both.
 *
 * The directory is the only state: `volumes/` (see VolumeFiles, Catalog) and `attached/` (see AttachmentMarks). Projects are not separated:
 * names of volumes are unique.
 */
export class FileBackend implements StorageBackend {
  readonly name = 'file';
  private readonly locks = new Locks();
  private readonly lostListeners: ((disks: string[]) => void)[] = [];
  private lostEarly: string[] = [];
  private probing: Promise<void> | undefined;
  private readonly overlays: OverlayAttachments;
  private readonly readers: VolumeReaders;
  private readonly maker: VolumeMaker;
  private readonly layers: DiskLayers;

  private constructor(
    private readonly directory: string,
    private readonly files: VolumeFiles,
    private readonly marks: AttachmentMarks,
    private readonly cloneFormat: Format,
    private readonly owner: { release(): Promise<void> },
  ) {
    const { locks } = this;
    const isAttached = (disk: string) => marks.has(disk);
    this.overlays = new OverlayAttachments({
      directory,
      mountpoints: marks.directory,
      wanted: () => this.attachedOverlays(),
      withFiles: (disk, use) => this.withFiles(disk, use),
      onLost: (disks) => this.tellLost(disks),
    });
    this.readers = new VolumeReaders(files, locks, isAttached);
    this.maker = new VolumeMaker({ files, locks, readers: this.readers, cloneFormat, isAttached });
    this.layers = new DiskLayers({
      files,
      locks,
      isAttached,
      follow: async (disk) => (isAttached(disk) ? this.overlays.follow(disk) : undefined),
      open: (layer) => this.readers.openLayer(layer),
    });
  }

  /**
   * Opens or creates a state directory: removes what interrupted calls left, tests whether reflinks work, adopts or starts the storage
   * daemon, and attaches what was attached. Errors: `storage.in_use` (by another process), `storage.misconfigured`, `storage.unavailable`.
   */
  static async open(options: { directory: string }): Promise<FileBackend> {
    const directory = await makeDirectories(options.directory);
    const owner = await ownDirectory(directory);
    try {
      const files = new VolumeFiles(join(directory, 'volumes'));
      const marks = await AttachmentMarks.open(join(directory, 'attached'));
      const format = (await canReflink(files.directory)) ? 'raw' : 'qcow2';
      const backend = new FileBackend(directory, files, marks, format, owner);
      await backend.layers.tidyAll();
      if (format === 'qcow2' || (await backend.attachedOverlays()).length > 0) await backend.overlays.open();
      return backend;
    } catch (error) {
      await owner.release();
      throw error;
    }
  }

  async ensureGolden(golden: string, source: GoldenSource, work: LongWork = {}): Promise<VolumeInfo> {
    assertVolumeName(golden);
    if ('foreign' in source) throw unsupported();
    if (!('path' in source)) assertOrigin(source);
    return unlessAborted(work, () => this.maker.golden(golden, source, work));
  }

  async ensureClone(origin: Origin, { name }: DiskVolume, options: { sizeBytes?: number } = {}): Promise<VolumeInfo> {
    assertOrigin(origin);
    assertVolumeName(name);
    return this.maker.clone(origin, name, options.sizeBytes);
  }

  async ensureTag({ name }: DiskVolume, tag: string): Promise<void> {
    assertVolumeName(name);
    assertTag(tag);
    await this.locks.exclusive(name, () => this.layers.tag(name, tag));
  }

  async ensureNoTag({ name }: DiskVolume, tag: string): Promise<void> {
    assertVolumeName(name);
    assertTag(tag);
    await this.locks.exclusive(name, () => this.layers.untag(name, tag));
  }

  async ensureSize({ name }: DiskVolume, sizeBytes: number): Promise<void> {
    assertVolumeName(name);
    await this.maker.resize(name, sizeBytes);
  }

  async ensureFlat({ name }: DiskVolume, work: LongWork = {}): Promise<void> {
    assertVolumeName(name);
    await unlessAborted(work, () => this.layers.flatten(name, work));
  }

  async ensureNoGolden(golden: string): Promise<void> {
    assertVolumeName(golden);
    await this.locks.exclusive(golden, async () => {
      const catalog = await this.files.read();
      const file = catalog.golden(golden);
      const users = catalog.users(golden);
      if (file && users.length > 0) {
        throw new StorageError(
          'storage.in_use',
          `Volume ${golden} has ${users.length} clone(s), ${users[0]?.volume} for one. Remove them, or make them flat.`,
        );
      }
      await this.remove([...(file ? [file.path] : []), this.files.partialPath(golden)]);
    });
  }

  async ensureNoDisk({ name }: DiskVolume): Promise<void> {
    assertVolumeName(name);
    await this.locks.exclusive(name, async () => {
      if (this.marks.has(name)) throw attached(name);
      const catalog = await this.files.read();
      const [user] = catalog.layers(name).flatMap((layer) => catalog.users(originId(layer)));
      if (user) {
        throw new StorageError(
          'storage.in_use',
          `Disk ${user.volume} was cloned from a tag of ${name}. Remove it, or make it flat.`,
        );
      }
      await this.layers.remove(name, catalog);
    });
  }

  async ensureAttached({ name }: DiskVolume): Promise<BackingStore> {
    assertVolumeName(name);
    return this.locks.exclusive(name, async () => {
      const file = (await this.files.read()).disk(name) ?? notFound(name);
      // The mark is set first, and stays when the attach fails: what may be attached must not be removed.
      await this.marks.add(name);
      return { type: 'file', path: file.format === 'raw' ? file.path : await this.overlays.attach(name) };
    });
  }

  async ensureDetached({ name }: DiskVolume): Promise<void> {
    assertVolumeName(name);
    await this.locks.exclusive(name, async () => {
      if (!this.marks.has(name)) return;
      // The mark goes last: it is the mount point, and it records a detach that was interrupted.
      if ((await this.files.read()).disk(name)?.format === 'qcow2') await this.overlays.detach(name);
      await this.marks.remove(name);
    });
  }

  openReader(readable: Readable): Promise<VolumeReader> {
    return this.readers.open(readable);
  }

  /** This backend has none. */
  async ensureNoForeign(): Promise<void> {}

  copyToForeign(): Promise<void> {
    return Promise.reject(unsupported());
  }

  /** None: a file is gone when it has no name. */
  async removed(): Promise<RemovedVolume[]> {
    return [];
  }

  onRemoved(): void {}

  async ensureFreed(): Promise<void> {}

  /** This backend keeps nothing for a project. */
  async ensureNoProject(): Promise<void> {}

  async list(): Promise<VolumeInfo[]> {
    const catalog = await this.files.readAgain();
    const infos: VolumeInfo[] = [];
    for (const volume of catalog.volumes()) {
      try {
        const file = catalog.golden(volume) ?? catalog.disk(volume);
        infos.push(file ? await info(file, catalog.tagNames(volume)) : await partialInfo(catalog, volume));
      } catch (error) {
        // It was removed or completed since the directory was read.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw asStorageError(error, `read volume ${volume}`);
      }
    }
    return infos;
  }

  async health(): Promise<void> {
    // One probe at a time: on a dead disk each would block one of the few threads for file calls.
    this.probing ??= probeStorage(this.directory).finally(() => (this.probing = undefined));
    await withDeadline(this.probing, 5_000, `write to ${this.directory}`);
    if (this.cloneFormat === 'qcow2') await this.overlays.health();
  }

  onAttachmentsLost(listener: (disks: string[]) => void): void {
    this.lostListeners.push(listener);
    const early = this.lostEarly;
    this.lostEarly = [];
    if (early.length > 0) listener(early);
  }

  async close(): Promise<void> {
    await this.overlays.close();
    await this.owner.release();
  }

  /**
   * For the end of an installation: like `close`, and the daemon and its mounts end, too. The next `open` attaches again what is marked.
   */
  async stop(): Promise<void> {
    await this.overlays.stop();
    await this.owner.release();
  }

  private remove(paths: string[]): Promise<void> {
    return this.locks.exclusive(layout, () => this.files.remove(paths));
  }

  private async attachedOverlays(): Promise<string[]> {
    const catalog = await this.files.read();
    return this.marks.all().filter((volume) => catalog.disk(volume)?.format === 'qcow2');
  }

  private withFiles<T>(volume: string, use: (files: OverlayFiles) => Promise<T>): Promise<T> {
    return this.locks.shared(layout, async () => {
      const catalog = await this.files.read();
      const disk = catalog.disk(volume) ?? notFound(volume);
      return use({ disk, below: catalog.chain(disk).slice(1) });
    });
  }

  /** Disks that `open` attached again are reported to the first listener, which could not register before. */
  private tellLost(disks: string[]): void {
    if (this.lostListeners.length === 0) this.lostEarly.push(...disks);
    for (const listener of this.lostListeners) listener(disks);
  }
}

/** The real path, because it is compared with the mount table. Only its owner may read it: disks are tenants' data. */
async function makeDirectories(directory: string): Promise<string> {
  try {
    for (const name of ['volumes', 'attached']) await mkdir(join(directory, name), { recursive: true, mode: 0o700 });
    return await realpath(directory);
  } catch (error) {
    throw asStorageError(error, `use ${directory}`);
  }
}

/** Whatever error the abort caused, the caller gets the signal's reason. */
async function unlessAborted<T>({ signal }: LongWork, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

async function partialInfo(catalog: Catalog, volume: string): Promise<VolumeInfo> {
  const sizes = await Promise.all(catalog.files(volume).map(async ({ path }) => (await stat(path)).size));
  const sizeBytes = sizes.reduce((sum, size) => sum + size, 0);
  return { name: volume, project: null, kind: 'partial', sizeBytes, tags: [] };
}
