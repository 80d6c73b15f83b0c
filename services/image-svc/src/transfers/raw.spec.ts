import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { collect, MemoryVolume } from './memory-volume.fixture.js';
import { produce } from './pieces.js';
import { rawPieces } from './raw.js';

const MiB = 2 ** 20;
const raw = (volume: MemoryVolume, start = 0, end = volume.sizeBytes) =>
  collect(produce(volume, rawPieces(volume, start, end)));

describe('raw bytes of a volume', () => {
  it('are all there, whatever the extents and the range', async () => {
    const volume = new MemoryVolume(5 * MiB + 512, [
      [1000, randomBytes(5000)],
      [7000, randomBytes(1)],
      [MiB - 3, randomBytes(2 * MiB)],
      [5 * MiB, randomBytes(512)],
    ]);
    const bytes = volume.bytes();
    expect((await raw(volume)).equals(bytes)).toBe(true);
    for (const [start, end] of [
      [0, 1],
      [1500, 7001],
      [6500, MiB],
      [2 * MiB, 2 * MiB],
      [3 * MiB + 5, 5 * MiB - 7],
      [5 * MiB + 511, 5 * MiB + 512],
    ] as const) {
      expect((await raw(volume, start, end)).equals(bytes.subarray(start, end))).toBe(true);
    }
  });

  it('are not read where there are none', async () => {
    const volume = new MemoryVolume(100 * MiB, [
      [10 * MiB, randomBytes(4096)],
      [10 * MiB + 8192, randomBytes(4096)],
    ]);
    expect((await raw(volume)).length).toBe(100 * MiB);
    // The short hole between the two is read: one call costs more than a few zeros.
    expect(volume.reads.reduce((sum, { length }) => sum + length, 0)).toBe(12_288);
    volume.reads.length = 0;
    await raw(volume, 50 * MiB, 60 * MiB);
    expect(volume.reads).toEqual([]);
  });
});
