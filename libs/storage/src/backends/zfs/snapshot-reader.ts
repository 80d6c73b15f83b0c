import { randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { asStorageError } from '../../storage.port.js';
import type { Extent, VolumeReader } from '../../storage.port.js';
import { ensureNone } from './copy.js';
import type { Source } from './dataset.js';
import type { Datasets } from './datasets.js';
import { sentExtents } from './send-stream.js';
import type { ZfsCommand } from './zfs-command.js';

interface ReaderOptions {
  /** The snapshot of another tag of the same disk. Error `storage.not_found`. */
  older(tag: string): Promise<string>;
  /** The snapshot was made for this reader, and goes with it. */
  temporary: boolean;
}

/**
 * Reads a snapshot through a clone that goes with the reader: zfs-fuse does not have the other way, `.zfs/snapshot`. A send stream tells
 * where data is: FUSE has no SEEK_DATA, and no file system tells what changed.
 */
export class SnapshotReader implements VolumeReader {
  private closed: Promise<void> | undefined;

  private constructor(
    private readonly zfs: ZfsCommand,
    private readonly source: Source,
    private readonly options: ReaderOptions,
    private readonly clone: string,
    private readonly file: FileHandle,
  ) {}

  static async open(
    zfs: ZfsCommand,
    datasets: Datasets,
    source: Source,
    options: ReaderOptions,
  ): Promise<SnapshotReader> {
    const clone = datasets.reader(randomUUID());
    try {
      await zfs.run('clone', '-o', 'readonly=on', source.snapshot, clone);
      return new SnapshotReader(zfs, source, options, clone, await open(datasets.file(clone), 'r'));
    } catch (error) {
      await forget(zfs, clone, source, options).catch(() => undefined);
      throw asStorageError(error, `read ${source.snapshot}`);
    }
  }

  get sizeBytes(): number {
    return this.source.sizeBytes;
  }

  async *extents(since?: string): AsyncGenerator<Extent, void> {
    const { snapshot, sizeBytes } = this.source;
    if (since === undefined) {
      for await (const extent of sentExtents(this.zfs.send(snapshot), sizeBytes)) if (extent.data) yield extent;
      return;
    }
    const older = await this.options.older(since);
    if (older === snapshot) return;
    if (older.split('@')[0] === snapshot.split('@')[0]) {
      yield* sentExtents(this.zfs.send('-i', older, snapshot), sizeBytes);
      return;
    }
    // The disk was made flat since. The pool sees nothing in common between the two, so everything may differ.
    let end = 0;
    for await (const extent of this.extents()) {
      if (extent.offset > end) yield { offset: end, length: extent.offset - end, data: false };
      yield extent;
      end = extent.offset + extent.length;
    }
    if (end < sizeBytes) yield { offset: end, length: sizeBytes - end, data: false };
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    try {
      for (let at = 0; at < length;) {
        const { bytesRead } = await this.file.read(bytes, at, length - at, offset + at);
        if (bytesRead === 0) break; // the file may be shorter than its volume
        at += bytesRead;
      }
    } catch (error) {
      throw asStorageError(error, `read ${this.source.snapshot}`);
    }
    return bytes;
  }

  close(): Promise<void> {
    this.closed ??= this.file.close().then(() => forget(this.zfs, this.clone, this.source, this.options));
    return this.closed;
  }
}

async function forget(zfs: ZfsCommand, clone: string, source: Source, options: ReaderOptions): Promise<void> {
  await ensureNone(zfs, clone);
  if (options.temporary) await ensureNone(zfs, source.snapshot);
}
