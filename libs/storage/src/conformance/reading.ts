import { expect, it } from 'vitest';
import type { Extent, Readable } from '../storage.port.js';
import { imageBytes, MiB } from './images.js';
import { collected, patched } from './suite.js';
import type { Suite } from './suite.js';

/** Readers, and the extents with data that they report. */
export function reading(suite: Suite): void {
  const dataIn = async (readable: Readable): Promise<Extent[]> => {
    const reader = await suite.backend.openReader(readable);
    try {
      const extents = (await collected(reader.extents())).filter((extent) => extent.data);
      let end = 0;
      for (const { offset, length } of extents) {
        expect(offset).toBeGreaterThanOrEqual(end);
        expect(length).toBeGreaterThan(0);
        end = offset + length;
      }
      expect(end).toBeLessThanOrEqual(reader.sizeBytes);
      return extents;
    } finally {
      await reader.close();
    }
  };
  const bytesOf = (extents: Extent[]) => extents.reduce((sum, { length }) => sum + length, 0);

  it('reads golden volumes, tags and disks, and knows where they are empty', async () => {
    const { backend, images } = suite;
    const disk = await suite.clone(1);
    const patch = Buffer.alloc(4096, 5);
    await suite.write(disk, 10 * MiB, patch);
    await backend.ensureTag(disk, 'kept');
    const expected = patched(images.bytes, 10 * MiB, patch);
    for (const [readable, bytes] of [
      [{ golden: suite.name(0) }, images.bytes],
      [{ disk, tag: 'kept' }, expected],
      [{ disk }, expected],
    ] as const) {
      expect((await suite.content(readable)).equals(bytes)).toBe(true);
      const data = bytesOf(await dataIn(readable));
      expect(data).toBeGreaterThanOrEqual(imageBytes / 2); // half of the image is a hole
      expect(data).toBeLessThan(imageBytes * 0.75);
    }
  });

  it('reads any part, several at a time', async () => {
    const { bytes } = suite.images;
    const disk = await suite.clone(1);
    await suite.write(disk, 0, Buffer.alloc(512, 1));
    const expected = patched(bytes, 0, Buffer.alloc(512, 1));
    const reader = await suite.backend.openReader({ disk });
    try {
      const parts = [
        [0, 1],
        [511, 2],
        [imageBytes - 1, 1],
        [6 * MiB - 3, 7],
        [12 * MiB, 4096],
        [18 * MiB - 1, MiB],
        [5 * MiB, 14 * MiB],
      ] as const;
      const read = await Promise.all(parts.map(([offset, length]) => reader.read(offset, length)));
      for (const [n, [offset, length]] of parts.entries()) {
        expect(read[n]?.equals(expected.subarray(offset, offset + length))).toBe(true);
      }
    } finally {
      await reader.close();
    }
  });

  it('a disk that is much larger than its data is not read for it', async () => {
    const { backend } = suite;
    const sizeBytes = 100 * 2 ** 30;
    const origin = { golden: await suite.golden() };
    await backend.ensureClone(origin, suite.disk(1), { sizeBytes });
    await suite.write(suite.disk(1), 90 * 2 ** 30, Buffer.alloc(4096, 6));
    const extents = await dataIn({ disk: suite.disk(1) });
    expect(bytesOf(extents)).toBeLessThan(2 * imageBytes);
    const far = extents.find(({ offset, length }) => offset <= 90 * 2 ** 30 && offset + length >= 90 * 2 ** 30 + 4096);
    expect(far).toBeDefined();
  });

  it('a clone of nothing but its origin has the data of its origin', async () => {
    const disk = await suite.clone(1);
    expect((await suite.content({ disk })).equals(suite.images.bytes)).toBe(true);
    await suite.backend.ensureTag(disk, 'untouched');
    expect((await suite.content({ disk, tag: 'untouched' })).equals(suite.images.bytes)).toBe(true);
  });

  it('there is nothing to read where there is nothing', async () => {
    const disk = await suite.clone(1);
    for (const readable of [
      { golden: suite.name(9) },
      { golden: disk.name },
      { disk: suite.disk(9) },
      { disk, tag: 'absent' },
      { disk: suite.disk(9), tag: 'absent' },
    ]) {
      await expect(suite.backend.openReader(readable)).rejects.toMatchObject({ code: 'storage.not_found' });
    }
  });
}
