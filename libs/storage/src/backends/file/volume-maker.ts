import { basename } from 'node:path';
import { asStorageError, StorageError } from '../../storage.port.js';
import type { LongWork, Origin, VolumeInfo } from '../../storage.port.js';
import { originId } from './catalog.js';
import type { DiskFile, Format, GoldenFile } from './catalog.js';
import { copyVolume } from './copy.js';
import { layout } from './disk-layers.js';
import { attached, existsDifferently, notFound } from '../volume-errors.js';
import { makeReadOnly, sourceSize, writeGolden } from '../image-file.js';
import type { ImageFile } from '../image-file.js';
import type { Locks } from '@m2/locks';
import { maxOverlayBytes, resizeOverlay, writeOverlay } from './qcow2-overlay.js';
import { reflink, resizeFile } from './reflink.js';
import { sizeOf } from './volume-files.js';
import type { VolumeFiles } from './volume-files.js';
import { originFile } from './volume-readers.js';
import type { VolumeReaders } from './volume-readers.js';

export interface VolumeMakerOptions {
  files: VolumeFiles;
  locks: Locks;
  readers: VolumeReaders;
  /** The kind of clones that raw files get here. */
  cloneFormat: Format;
  isAttached(disk: string): boolean;
}

/** Creates golden volumes and clones, and makes disks larger. */
export class VolumeMaker {
  constructor(private readonly options: VolumeMakerOptions) {}

  golden(golden: string, source: ImageFile | Origin, work: LongWork): Promise<VolumeInfo> {
    const { files, locks } = this.options;
    return locks.exclusive(golden, async () => {
      const catalog = await files.read();
      if (catalog.disk(golden)) throw existsDifferently(golden);
      const file = files.golden(golden);
      if (!catalog.golden(golden)) {
        await files.create(file, (partial) => this.fill(source, partial, work));
        return info(file);
      }
      const existing = await info(file);
      // A repeated call may find that its source was removed since. Then there is nothing to compare.
      const size = async () => ('path' in source ? sourceSize(source) : sizeOf(originFile(catalog, source)));
      if ((await size().catch(() => existing.sizeBytes)) !== existing.sizeBytes) throw existsDifferently(golden);
      return existing;
    });
  }

  clone(origin: Origin, disk: string, wanted: number | undefined): Promise<VolumeInfo> {
    const { files } = this.options;
    const from = 'golden' in origin ? origin.golden : origin.disk.name;
    if (from === disk) return Promise.reject(existsDifferently(disk));
    return this.withBoth(disk, from, async () => {
      const catalog = await files.read();
      const parent = originFile(catalog, origin);
      const originBytes = await sizeOf(parent);
      const sizeBytes = wanted ?? originBytes;
      const existing = catalog.disk(disk);
      if (existing) {
        const found = await info(existing, catalog.tagNames(disk));
        const sameOrigin = existing.origin === originId(parent) || existing.origin === 'flat';
        if (sameOrigin && found.sizeBytes === sizeBytes) return found;
      }
      if (existing ?? catalog.golden(disk)) throw existsDifferently(disk);
      assertSize(sizeBytes, originBytes);
      const format = parent.format === 'raw' ? this.options.cloneFormat : 'qcow2';
      const id = originId(parent);
      const file = format === 'raw' ? files.rawDisk(disk, id) : files.overlay(disk, id, 0);
      await files.create(file, (partial) =>
        format === 'raw'
          ? reflink(parent.path, partial, sizeBytes)
          : writeOverlay(partial, sizeBytes, { name: basename(parent.path), format: parent.format }),
      );
      return info(file);
    });
  }

  resize(disk: string, sizeBytes: number): Promise<void> {
    const { files, locks, isAttached } = this.options;
    return locks.exclusive(disk, async () => {
      const file = (await files.read()).disk(disk) ?? notFound(disk);
      const now = await sizeOf(file);
      assertSize(sizeBytes, now);
      if (sizeBytes === now) return;
      if (isAttached(disk)) throw attached(disk);
      await (file.format === 'raw' ? resizeFile : resizeOverlay)(file.path, sizeBytes).catch((error: unknown) => {
        throw asStorageError(error, `resize ${disk}`);
      });
    });
  }

  private async fill(source: ImageFile | Origin, partial: string, work: LongWork): Promise<void> {
    if ('path' in source) return writeGolden(source, partial, work);
    work.signal?.throwIfAborted();
    const { files, locks, readers, cloneFormat } = this.options;
    const shared = await locks.shared(layout, async () => {
      const file = originFile(await files.read(), source);
      if (file.format !== 'raw' || cloneFormat !== 'raw') return undefined;
      const total = await sizeOf(file);
      await reflink(file.path, partial, total);
      return total;
    });
    if (shared === undefined) {
      const reader = await readers.open(source);
      await copyVolume(reader, partial, work).finally(() => reader.close());
    }
    await makeReadOnly(partial);
    if (shared !== undefined) work.onProgress?.(shared, shared);
  }

  /** Locks what the clone is made from, so that nobody removes it. In the order of the names, so that two calls cannot deadlock. */
  private withBoth<T>(disk: string, origin: string, work: () => Promise<T>): Promise<T> {
    const { locks } = this.options;
    return disk < origin
      ? locks.exclusive(disk, () => locks.shared(origin, work))
      : locks.shared(origin, () => locks.exclusive(disk, work));
  }
}

export async function info(file: GoldenFile | DiskFile, tags: string[] = []): Promise<VolumeInfo> {
  return { name: file.volume, project: null, kind: file.kind, sizeBytes: await sizeOf(file), tags };
}

function assertSize(sizeBytes: number, least: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes % 512 !== 0 || sizeBytes < least || sizeBytes > maxOverlayBytes) {
    throw new StorageError(
      'storage.bad_size',
      `The disk cannot have ${sizeBytes} bytes. Ask for a multiple of 512 from ${least} to ${maxOverlayBytes}.`,
    );
  }
}
