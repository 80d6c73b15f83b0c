import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { withDeadline } from '../deadline.js';
import { assertVolumeName, asStorageError, StorageError } from '../storage.port.js';
import type { BackingStore, GoldenSource, ImportOptions, StorageBackend, VolumeInfo } from '../storage.port.js';
import { AttachmentMarks } from './attachment-marks.js';
import { ownDirectory } from './directory-owner.js';
import { sourceSize, writeGolden } from './golden.js';
import { Locks } from './locks.js';
import { OverlayAttachments } from './overlay-attachments.js';
import type { OverlayFiles } from './overlay-attachments.js';
import { probeStorage } from './probe.js';
import { maxOverlayBytes, writeOverlay } from './qcow2-overlay.js';
import { canReflink, reflink } from './reflink.js';
import { VolumeFiles } from './volume-files.js';
import type { CloneFile, CloneFormat } from './volume-files.js';

/**
 * Volumes as files in one directory of one machine, the embedded default.
 *
 * Where the file system shares extents (XFS, btrfs) a clone is a reflinked raw file, and a target opens that file.
 * Elsewhere it is a qcow2 overlay, and a target opens what the storage daemon shows of it. A clone keeps the format it
 * was made in, so a directory that moved to another file system may hold both.
 *
 * The directory is the only state: `volumes/` (see VolumeFiles) and `attached/` (see AttachmentMarks).
 */
export class FileBackend implements StorageBackend {
  readonly name = 'file';
  private readonly locks = new Locks();
  private readonly lostListeners: ((volumes: string[]) => void)[] = [];
  private lostEarly: string[] = [];
  private probing: Promise<void> | undefined;
  private readonly overlays: OverlayAttachments;

  private constructor(
    private readonly directory: string,
    private readonly files: VolumeFiles,
    private readonly marks: AttachmentMarks,
    private readonly cloneFormat: CloneFormat,
    private readonly owner: { release(): Promise<void> },
  ) {
    this.overlays = new OverlayAttachments({
      directory,
      mountpoints: marks.directory,
      wanted: () => this.attachedOverlays(),
      onLost: (volumes) => this.tellLost(volumes),
    });
  }

  /**
   * Opens (or begins) a state directory: probes for reflinks, adopts a running storage daemon or starts one, and puts
   * back what was attached. Errors: `storage.in_use` (by another process), `storage.misconfigured`, `storage.unavailable`.
   */
  static async open(options: { directory: string }): Promise<FileBackend> {
    const directory = await makeDirectories(options.directory);
    const owner = await ownDirectory(directory);
    try {
      const files = new VolumeFiles(join(directory, 'volumes'));
      const marks = new AttachmentMarks(join(directory, 'attached'));
      const format = (await canReflink(files.directory)) ? 'raw' : 'qcow2';
      const backend = new FileBackend(directory, files, marks, format, owner);
      if (format === 'qcow2' || (await backend.attachedOverlays()).length > 0) await backend.overlays.open();
      return backend;
    } catch (error) {
      await owner.release();
      throw error;
    }
  }

  async ensureGolden(volume: string, source: GoldenSource, options: ImportOptions = {}): Promise<VolumeInfo> {
    assertVolumeName(volume);
    return this.locks.exclusive(volume, async () => {
      const existing = await this.files.find(volume);
      if (!existing) {
        try {
          return await this.files.create(this.files.golden(volume), (partial) => writeGolden(source, partial, options));
        } catch (error) {
          options.signal?.throwIfAborted();
          throw error;
        }
      }
      const info = await this.files.info(existing);
      // An operation that is resumed after its import may have deleted the source: then there is nothing to compare.
      const size = await sourceSize(source).catch(() => info.sizeBytes);
      if (existing.kind !== 'golden' || size !== info.sizeBytes) throw existsDifferently(volume);
      return info;
    });
  }

  async ensureClone(golden: string, volume: string, options: { sizeBytes?: number } = {}): Promise<VolumeInfo> {
    assertVolumeName(golden);
    assertVolumeName(volume);
    if (golden === volume) throw existsDifferently(volume);
    // A golden volume never waits for one of its clones, so the two locks cannot wait for each other.
    return this.locks.exclusive(volume, () =>
      this.locks.shared(golden, async () => {
        const parent = await this.files.find(golden);
        if (parent?.kind !== 'golden') throw notFound(golden);
        const { sizeBytes: goldenBytes } = await this.files.info(parent);
        const sizeBytes = options.sizeBytes ?? goldenBytes;
        const existing = await this.files.find(volume);
        if (existing) {
          const info = await this.files.info(existing);
          if (existing.kind === 'clone' && existing.golden === golden && info.sizeBytes === sizeBytes) return info;
          throw existsDifferently(volume);
        }
        assertCloneSize(sizeBytes, goldenBytes);
        return this.files.create(this.files.clone(volume, golden, this.cloneFormat), (partial) =>
          this.cloneFormat === 'raw'
            ? reflink(parent.path, partial, sizeBytes)
            : writeOverlay(partial, sizeBytes, `${golden}.golden.raw`),
        );
      }),
    );
  }

  async ensureNoVolume(volume: string): Promise<void> {
    assertVolumeName(volume);
    await this.locks.exclusive(volume, async () => {
      if ((await this.marks.all()).has(volume)) {
        throw new StorageError('storage.in_use', `Volume ${volume} is attached. Detach it first.`);
      }
      const existing = await this.files.find(volume);
      if (existing?.kind === 'golden') {
        const clones = (await this.files.clones()).filter((clone) => clone.golden === volume);
        if (clones.length > 0) {
          throw new StorageError(
            'storage.in_use',
            `Volume ${volume} has ${clones.length} clone(s), ${clones[0]?.volume} for one. Remove them first.`,
          );
        }
      }
      await this.files.remove([this.files.partialPath(volume), ...(existing ? [existing.path] : [])]);
    });
  }

  async ensureAttached(volume: string): Promise<BackingStore> {
    assertVolumeName(volume);
    return this.locks.exclusive(volume, async () => {
      const file = await this.files.find(volume);
      if (!file) throw notFound(volume);
      if (file.kind !== 'clone') {
        throw new StorageError('storage.read_only', `Volume ${volume} is golden. Attach a clone of it.`);
      }
      // The mark first, and it stays when the attach fails: what may be attached is never removed by mistake.
      await this.marks.add(volume);
      const path = file.format === 'raw' ? file.path : await this.overlays.attach(this.overlayFiles(file));
      return { type: 'file', path };
    });
  }

  async ensureDetached(volume: string): Promise<void> {
    assertVolumeName(volume);
    await this.locks.exclusive(volume, async () => {
      if (!(await this.marks.all()).has(volume)) return;
      const file = await this.files.find(volume);
      // The mark last: it is the mount point, and it remembers a detach that was interrupted.
      if (file?.kind === 'clone' && file.format === 'qcow2') await this.overlays.detach(volume);
      await this.marks.remove(volume);
    });
  }

  async list(): Promise<VolumeInfo[]> {
    const infos: VolumeInfo[] = [];
    for (const file of await this.files.all()) {
      try {
        infos.push(await this.files.info(file));
      } catch (error) {
        // Removed, or became what it was to be, since the directory was read.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
          throw asStorageError(error, `read volume ${file.volume}`);
      }
    }
    return infos;
  }

  async health(): Promise<void> {
    // One probe at a time: on a dead disk each would block one of the few threads that all file calls here share.
    this.probing ??= probeStorage(this.directory).finally(() => (this.probing = undefined));
    await withDeadline(this.probing, 5_000, `write to ${this.directory}`);
    if (this.cloneFormat === 'qcow2') await this.overlays.health();
  }

  onAttachmentsLost(listener: (volumes: string[]) => void): void {
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
   * Teardown of the machine's services: like `close`, and the daemon and its mounts go too. What is marked as attached
   * is put back by the next `open`.
   */
  async stop(): Promise<void> {
    await this.overlays.stop();
    await this.owner.release();
  }

  private async attachedOverlays(): Promise<OverlayFiles[]> {
    const marks = await this.marks.all();
    const clones = await this.files.clones();
    return clones.filter((it) => it.format === 'qcow2' && marks.has(it.volume)).map((it) => this.overlayFiles(it));
  }

  private overlayFiles(clone: CloneFile): OverlayFiles {
    return { volume: clone.volume, overlay: clone.path, golden: this.files.golden(clone.golden).path };
  }

  /** Disks that `open` put back are told to the first listener, who could not be there before. */
  private tellLost(volumes: string[]): void {
    if (this.lostListeners.length === 0) this.lostEarly.push(...volumes);
    for (const listener of this.lostListeners) listener(volumes);
  }
}

/** The real path, as it is compared with the mount table. Only its owner may look in: disks are tenants' data. */
async function makeDirectories(directory: string): Promise<string> {
  try {
    for (const name of ['volumes', 'attached']) await mkdir(join(directory, name), { recursive: true, mode: 0o700 });
    return await realpath(directory);
  } catch (error) {
    throw asStorageError(error, `use ${directory}`);
  }
}

function assertCloneSize(sizeBytes: number, goldenBytes: number): void {
  if (
    !Number.isSafeInteger(sizeBytes) ||
    sizeBytes % 512 !== 0 ||
    sizeBytes < goldenBytes ||
    sizeBytes > maxOverlayBytes
  ) {
    throw new StorageError(
      'storage.bad_size',
      `A clone cannot have ${sizeBytes} bytes. Ask for a multiple of 512 from ${goldenBytes} to ${maxOverlayBytes}.`,
    );
  }
}

function notFound(volume: string): StorageError {
  return new StorageError('storage.not_found', `There is no volume ${volume}. Check the name, or import it first.`);
}

function existsDifferently(volume: string): StorageError {
  return new StorageError(
    'storage.exists_differently',
    `Volume ${volume} exists with another origin or size. Use a new name: names are never used again.`,
  );
}
