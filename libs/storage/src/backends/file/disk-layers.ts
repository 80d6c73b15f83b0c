import { StorageError } from '../../storage.port.js';
import type { LongWork, VolumeReader } from '../../storage.port.js';
import { originId } from './catalog.js';
import type { Catalog, DiskFile, LayerFile } from './catalog.js';
import { copyVolume } from './copy.js';
import { attached, notFound } from '../volume-errors.js';
import type { Locks } from '@m2/locks';
import { writeOverlay } from './qcow2-overlay.js';
import { reflink } from './reflink.js';
import { sizeOf } from './volume-files.js';
import type { VolumeFiles } from './volume-files.js';

/**
 * Shared: for a call that opens files by their names, one after the other. Exclusive, and only for a moment: for a call that renames or
 * removes a file that others may depend on. Taken after a volume's lock. Nobody waits for the daemon while holding it exclusively.
 */
export const layout = 'layout';

export interface DiskLayersOptions {
  files: VolumeFiles;
  locks: Locks;
  isAttached(volume: string): boolean;
  /** When it returns, writes of the disk go to its own file, and none of its layers changes any more. */
  follow(volume: string): Promise<void>;
  open(layer: LayerFile): Promise<VolumeReader>;
}

/**
 * Tags and flattening: the disk's file becomes a layer below a new file.
 *
 * The steps of a tag of an overlay, and why a crash after any of them is safe:
 * 1. A new, empty overlay gets the next number. It is the disk, and the former disk is a layer below it.
 * 2. If the daemon has the disk open, it is told to write to the new file (`follow`). Until then writes go to the layer. After a
 *    failure or a crash this is done before the next tag, or when the daemon is adopted.
 * 3. The tag's name is written. Only now does the tag exist.
 */
export class DiskLayers {
  constructor(private readonly options: DiskLayersOptions) {}

  /** The caller has the disk's lock. */
  async tag(volume: string, tag: string): Promise<void> {
    const { files } = this.options;
    const catalog = await this.tidy(volume);
    const disk = catalog.disk(volume) ?? notFound(volume);
    if (catalog.tagged(volume, tag)) return;
    const layer = disk.format === 'raw' ? await this.share(catalog, disk) : await this.freeze(catalog, disk);
    await files.mark(files.tag(volume, tag, layer.number));
  }

  /** The caller has the disk's lock. */
  async untag(volume: string, tag: string): Promise<void> {
    const catalog = await this.tidy(volume);
    const file = catalog.tags(volume).find((it) => it.tag === tag);
    if (!file) return;
    const layer = catalog.tagged(volume, tag);
    const [user] = layer ? catalog.users(originId(layer)) : [];
    if (user) {
      throw new StorageError(
        'storage.in_use',
        `Disk ${user.volume} was cloned from tag ${tag} of ${volume}. Remove it, or make it flat.`,
      );
    }
    await this.options.files.remove([file.path]);
    await this.tidy(volume);
  }

  /**
   * The long part holds no lock: meanwhile the disk can be tagged, attached and written to. A raw file replaces the newest layer. It has
   * the same content, so it does not matter what becomes of the disk.
   */
  async flatten(volume: string, work: LongWork): Promise<void> {
    const { files, locks, open } = this.options;
    work.signal?.throwIfAborted();
    await locks.exclusive(`flatten ${volume}`, async () => {
      const layer = await locks.exclusive(volume, () => this.layerToFlatten(volume));
      if (layer.kind === 'disk') {
        const total = await sizeOf(layer);
        return work.onProgress?.(total, total);
      }
      const reader = await open(layer);
      try {
        await files.create(
          files.layer(volume, layer.number),
          (partial) => copyVolume(reader, partial, work),
          (rename) =>
            locks.exclusive(volume, async () => {
              if (!(await files.read()).disk(volume)) notFound(volume);
              await locks.exclusive(layout, rename);
              await this.tidy(volume);
            }),
        );
      } finally {
        await reader.close();
      }
    });
  }

  /** Removes a disk with everything that it has. The caller holds its lock, and has made sure that nobody needs it. */
  async remove(volume: string, catalog: Catalog): Promise<void> {
    const { files, locks } = this.options;
    const all = catalog.files(volume).filter((file) => file.kind !== 'golden');
    const disk = catalog.disk(volume);
    const halves = all.filter((file) => file.kind === 'partial');
    if (all.length === halves.length + (disk ? 1 : 0)) return files.remove(all.map((file) => file.path));
    // The disk is gone in one step. What a crash leaves after that is removed by the next call or start.
    if (disk) await locks.exclusive(layout, () => files.rename(disk, files.gone(volume)));
    await files.remove(halves.map((file) => file.path));
    await this.tidy(volume);
  }

  /**
   * Removes what an interrupted call left, and layers that nobody needs any more. Returns what is left. The caller holds the disk's lock,
   * or is alone.
   */
  async tidy(volume: string): Promise<Catalog> {
    const { files, locks } = this.options;
    const catalog = await files.read();
    const paths = catalog.garbage(volume).map((file) => file.path);
    if (paths.length === 0) return catalog;
    await locks.exclusive(layout, () => files.remove(paths));
    return files.read();
  }

  /** Runs before anybody uses the directory. Removes incomplete volumes, too. */
  async tidyAll(): Promise<void> {
    const { files } = this.options;
    const catalog = await files.read();
    for (const volume of catalog.volumes()) {
      // A damaged volume must not block the others. Whoever uses it gets the error.
      await this.tidy(volume).catch(() => {});
      if (!(catalog.golden(volume) ?? catalog.disk(volume))) continue;
      const halves = catalog.files(volume).filter((file) => file.kind === 'partial');
      await files.remove(halves.map((file) => file.path));
    }
  }

  /** A layer that shares the extents of the disk. The disk does not change: the file system makes the copy between two writes. */
  private async share(catalog: Catalog, disk: DiskFile): Promise<LayerFile> {
    const { files } = this.options;
    const layer = files.layer(disk.volume, catalog.nextNumber(disk));
    await files.create(layer, async (partial) => reflink(disk.path, partial, await sizeOf(disk)));
    return layer;
  }

  /** The disk's file becomes its newest layer. */
  private async freeze(catalog: Catalog, disk: DiskFile): Promise<LayerFile> {
    const { files, locks, follow } = this.options;
    const { volume, origin, number } = disk;
    await follow(volume);
    const next = files.overlay(volume, origin, catalog.nextNumber(disk));
    await files.create(
      next,
      async (partial) => writeOverlay(partial, await sizeOf(disk)),
      (rename) => locks.exclusive(layout, rename),
    );
    await follow(volume);
    return { volume, kind: 'layer', number, format: 'qcow2', path: disk.path };
  }

  /** The layer whose content has to be copied; the disk itself when it is flat by now. */
  private async layerToFlatten(volume: string): Promise<LayerFile | DiskFile> {
    const { files, isAttached, follow } = this.options;
    const catalog = await this.tidy(volume);
    const disk = catalog.disk(volume) ?? notFound(volume);
    if (catalog.isFlat(disk)) return disk;
    if (disk.format === 'raw') {
      // A target has the file open under its present name, which would change.
      if (isAttached(volume)) throw attached(volume);
      const flat = files.rawDisk(volume, 'flat');
      await files.rename(disk, flat);
      return flat;
    }
    await follow(volume);
    return catalog.layers(volume)[0] ?? this.freeze(catalog, disk);
  }
}
