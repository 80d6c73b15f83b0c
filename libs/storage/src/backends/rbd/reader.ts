import type { Extent as RbdExtent, ImageHandle, RbdClient, SourceRef } from '@m2/rbd';
import { assertTag, StorageError } from '../../storage.port.js';
import type { Extent, VolumeReader } from '../../storage.port.js';
import { translateErrors } from './errors.js';
import { formatRef } from './names.js';

/** Differences are read in parts, so that a large volume needs no more memory than a small one. */
const windowBytes = 64 * 2 ** 30;

/** An open image or snapshot. An open image is watched, so nobody removes it; reading a removed tag fails. */
export class RbdReader implements VolumeReader {
  private constructor(
    private readonly handle: ImageHandle,
    private readonly name: string,
  ) {}

  static async open(rbd: RbdClient, ref: SourceRef): Promise<RbdReader> {
    return new RbdReader(await rbd.openImage(ref, { readOnly: false }), formatRef(ref));
  }

  get sizeBytes(): number {
    return this.handle.sizeBytes;
  }

  async *extents(since?: string): AsyncIterable<Extent> {
    if (since !== undefined) assertTag(since);
    for (let offset = 0; offset < this.sizeBytes; offset += windowBytes) {
      const window = { offset, length: Math.min(windowBytes, this.sizeBytes - offset) };
      // The object map tells which objects exist, or differ, without looking at any of them.
      const objects = runs(await this.diff({ wholeObject: true, range: window }, since));
      if (since === undefined) yield* objects.filter(({ data }) => data).flatMap((run) => this.clipped(run));
      else for (const run of objects) yield* await this.differences(run, since);
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = await translateErrors(`read ${this.name}`, () => this.handle.read(offset, length));
    if (bytes.length === length) return bytes;
    throw new StorageError(
      'storage.bad_size',
      `${this.name} has no ${length} bytes at ${offset}. Read within its size.`,
    );
  }

  close(): Promise<void> {
    return translateErrors(`close ${this.name}`, () => this.handle.close());
  }

  /** Differences within the objects that differ. */
  private async differences(run: Extent, since: string): Promise<Extent[]> {
    const ranges = this.clipped(run);
    const found = await Promise.all(ranges.map((range) => this.diff({ range }, since)));
    return runs(found.flat()).flatMap((part) => this.clipped(part));
  }

  private diff(what: Parameters<ImageHandle['diff']>[0], since: string | undefined): Promise<RbdExtent[]> {
    const from = { ...what, ...(since !== undefined && { fromSnap: since }) };
    return translateErrors(`compare ${this.name}`, () => this.handle.diff(from));
  }

  /** Of the last object only the part in the volume; nothing of an object after that. */
  private clipped({ offset, length, data }: Extent): Extent[] {
    const end = Math.min(offset + length, this.sizeBytes);
    return end > offset ? [{ offset, length: end - offset, data }] : [];
  }
}

/** Joins adjacent extents of the same kind. */
function runs(extents: RbdExtent[]): Extent[] {
  const joined: Extent[] = [];
  for (const { offset, length, exists } of extents) {
    const last = joined.at(-1);
    if (last?.data === exists && last.offset + last.length === offset) last.length += length;
    else joined.push({ offset, length, data: exists });
  }
  return joined;
}
