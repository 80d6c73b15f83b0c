import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { collect, MemoryVolume } from './memory-volume.fixture.js';
import { produce } from './pieces.js';

const MiB = 2 ** 20;

describe('produce', () => {
  it('answers pieces of all kinds in their order', async () => {
    const volume = new MemoryVolume(2 * MiB, [[0, randomBytes(2 * MiB)]]);
    const pieces = [Buffer.from('head'), { zeros: MiB + 1 }, { offset: 5, length: MiB }, Buffer.from('tail')];
    const expected = Buffer.concat([
      Buffer.from('head'),
      Buffer.alloc(MiB + 1),
      volume.bytes(5, MiB),
      Buffer.from('tail'),
    ]);
    expect((await collect(produce(volume, pieces))).equals(expected)).toBe(true);
    // Reads end where objects end.
    expect(volume.reads).toEqual([
      { offset: 5, length: MiB - 5 },
      { offset: MiB, length: 5 },
    ]);
  });

  it('keeps several reads under way, and no more than that', async () => {
    const volume = new MemoryVolume(100 * MiB, []);
    const chunks = produce(volume, [{ offset: 0, length: 100 * MiB }]);
    await chunks.next();
    expect(volume.reads.length).toBe(16);
    await collect(chunks);
    expect(volume.mostInFlight).toBeLessThanOrEqual(16);
    expect(volume.mostInFlight).toBeGreaterThan(1);
  });

  it('leaves no read behind when nobody wants more', async () => {
    const volume = new MemoryVolume(100 * MiB, []);
    const chunks = produce(volume, [{ offset: 0, length: 100 * MiB }]);
    await chunks.next();
    await chunks.return();
    await volume.close(); // fails while it is read
    expect(volume.reads.length).toBe(16);
  });

  it('fails as a read fails, when all others have ended', async () => {
    const volume = new MemoryVolume(100 * MiB, []);
    const broken = Object.assign(new Error('the OSD is gone'), { code: 'storage.timeout' });
    volume.gate = Promise.reject(broken);
    volume.gate.catch(() => {});
    await expect(collect(produce(volume, [{ offset: 0, length: 100 * MiB }]))).rejects.toBe(broken);
    await volume.close();
  });
});
