import type { Extent as RbdExtent, ImageHandle, RbdClient, SourceRef } from '@m2/rbd';
import { assertTag, StorageError } from '../../storage.port.js';
import type { Extent, VolumeReader } from '../../storage.port.js';
import { told } from './errors.js';
import { spelled } from './names.js';

/** Differences are asked for in parts, so that a volume of many objects costs no more memory than a small one. */
const windowBytes = 64 * 2 ** 30;

/** An open image or snapshot. It is watched, so nobody removes it; of a tag that is removed nothing is read any more. */
export class RbdReader implements VolumeReader {
  private constructor(
    private readonly handle: ImageHandle,
    private readonly name: string,
  ) {}

  static async open(rbd: RbdClient, ref: SourceRef): Promise<RbdReader> {
    return new RbdReader(await rbd.openImage(ref, { readOnly: false }), spelled(ref));
  }

  get sizeBytes(): number {
    return this.handle.sizeBytes;
  }

  async *extents(since?: string): AsyncIterable<Extent> {
    if (since !== undefined) assertTag(since);
    for (let offset = 0; offset < this.sizeBytes; offset += windowBytes) {
      const window = { offset, length: Math.min(windowBytes, this.sizeBytes - offset) };
      // The object map tells which objects there are, or differ, without any of them being looked at.
      const objects = runs(await this.diff({ wholeObject: true, range: window }, since));
      if (since === undefined) yield* objects.filter(({ data }) => data).flatMap((run) => this.clipped(run));
      else for (const run of objects) yield* await this.differences(run, since);
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = await told(`read ${this.name}`, () => this.handle.read(offset, length));
    if (bytes.length === length) return bytes;
    throw new StorageError(
      'storage.bad_size',
      `${this.name} has no ${length} bytes at ${offset}. Read within its size.`,
    );
  }

  close(): Promise<void> {
    return told(`close ${this.name}`, () => this.handle.close());
  }

  /** What differs within objects that do. */
  private async differences(run: Extent, since: string): Promise<Extent[]> {
    const ranges = this.clipped(run);
    const found = await Promise.all(ranges.map((range) => this.diff({ range }, since)));
    return runs(found.flat()).flatMap((part) => this.clipped(part));
  }

  private diff(what: Parameters<ImageHandle['diff']>[0], since: string | undefined): Promise<RbdExtent[]> {
    const from = { ...what, ...(since !== undefined && { fromSnap: since }) };
    return told(`compare ${this.name}`, () => this.handle.diff(from));
  }

  /** Of the last object only what lies in the volume; nothing of one that lies behind it. */
  private clipped({ offset, length, data }: Extent): Extent[] {
    const end = Math.min(offset + length, this.sizeBytes);
    return end > offset ? [{ offset, length: end - offset, data }] : [];
  }
}

/** Joins what is adjacent and alike. */
function runs(extents: RbdExtent[]): Extent[] {
  const joined: Extent[] = [];
  for (const { offset, length, exists } of extents) {
    const last = joined.at(-1);
    if (last?.data === exists && last.offset + last.length === offset) last.length += length;
    else joined.push({ offset, length, data: exists });
  }
  return joined;
}
