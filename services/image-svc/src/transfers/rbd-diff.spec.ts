import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { collect, MemoryVolume } from './memory-volume.fixture.js';
import { produce } from './pieces.js';
import { type DiffNames, rbdDiffPieces } from './rbd-diff.js';

const MiB = 2 ** 20;

/** A separate reader of the format, after Ceph's doc/dev/rbd-diff. */
function parse(diff: Buffer): { tag: string; name?: string; offset?: number; length?: number; bytes?: Buffer }[] {
  expect(diff.toString('latin1', 0, 12)).toBe('rbd diff v1\n');
  let at = 12;
  const u64 = () => Number(diff.readBigUInt64LE((at += 8) - 8));
  const records: ReturnType<typeof parse> = [];
  for (;;) {
    const tag = diff.toString('latin1', at, (at += 1));
    if (tag === 'e') break;
    if (tag === 'f' || tag === 't') {
      const length = diff.readUInt32LE((at += 4) - 4);
      records.push({ tag, name: diff.toString('utf8', at, (at += length)) });
    } else if (tag === 's') records.push({ tag, length: u64() });
    else {
      const [offset, length] = [u64(), u64()];
      expect(['w', 'z']).toContain(tag);
      records.push({ tag, offset, length, ...(tag === 'w' && { bytes: diff.subarray(at, (at += length)) }) });
    }
  }
  expect(at).toBe(diff.length);
  return records;
}

const diff = async (volume: MemoryVolume, since: string | undefined, names: DiffNames) =>
  parse(await collect(produce(volume, rbdDiffPieces(volume, since, names))));

describe('rbd diff', () => {
  it('of all: the size, what is there, and no zeros', async () => {
    const volume = new MemoryVolume(10 * MiB, [
      [512, randomBytes(512)],
      [MiB, randomBytes(5 * MiB)],
    ]);
    const records = await diff(volume, undefined, { to: 'golden' });
    expect(records.map(({ bytes: _, ...record }) => record)).toEqual([
      { tag: 't', name: 'golden' },
      { tag: 's', length: 10 * MiB },
      { tag: 'w', offset: 512, length: 512 },
      { tag: 'w', offset: MiB, length: 4 * MiB },
      { tag: 'w', offset: 5 * MiB, length: MiB },
    ]);
    const image = Buffer.alloc(10 * MiB);
    for (const { offset, bytes } of records) bytes?.copy(image, offset);
    expect(image.equals(volume.bytes())).toBe(true);
  });

  it('since a tag: what changed and what became zeros, between two snapshots', async () => {
    const volume = new MemoryVolume(
      4 * MiB,
      [[0, randomBytes(4 * MiB)]],
      [
        { offset: 0, length: 4096, data: true },
        { offset: MiB, length: 2 * MiB, data: false },
      ],
    );
    expect(await diff(volume, 'before', { from: 'before', to: 'after' })).toEqual([
      { tag: 'f', name: 'before' },
      { tag: 't', name: 'after' },
      { tag: 's', length: 4 * MiB },
      { tag: 'w', offset: 0, length: 4096, bytes: volume.bytes(0, 4096) },
      { tag: 'z', offset: MiB, length: 2 * MiB },
    ]);
  });
});
