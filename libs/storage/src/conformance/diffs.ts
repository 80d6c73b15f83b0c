import { array, assert, asyncProperty, integer, nat, record } from 'fast-check';
import { expect, it } from 'vitest';
import type { DiskVolume, Readable } from '../storage.port.js';
import { imageBytes, MiB } from './images.js';
import type { Suite } from './suite.js';

/** What changed since a tag must be enough to make the newer content out of the older one, as a backup does. */
export function diffs(suite: Suite): void {
  /** Applies what `readable` says has changed since `tag` to `older`, and counts it. */
  const applied = async (older: Buffer, readable: Readable, tag: string) => {
    const reader = await suite.backend.openReader(readable);
    try {
      const bytes = Buffer.alloc(reader.sizeBytes);
      older.copy(bytes);
      let [end, changed] = [0, 0];
      for await (const { offset, length, data } of reader.extents(tag)) {
        expect(offset).toBeGreaterThanOrEqual(end);
        end = offset + length;
        expect(end).toBeLessThanOrEqual(reader.sizeBytes);
        if (data) (await reader.read(offset, length)).copy(bytes, offset);
        else bytes.fill(0, offset, end);
        changed += length;
      }
      return { bytes, changed };
    } finally {
      await reader.close();
    }
  };

  /** Random writes of sectors, of random lengths, some of them zeros, like a node's. */
  const sectors = imageBytes / 512;
  const write = record({ at: nat(sectors - 1), sectors: integer({ min: 1, max: 2500 }), fill: nat(3) }).map((it) => ({
    offset: it.at * 512,
    length: Math.min(it.sectors, sectors - it.at) * 512,
    fill: it.fill,
  }));
  const writes = array(write, { maxLength: 8 });
  const apply = (disk: DiskVolume, all: { offset: number; length: number; fill: number }[]) =>
    suite.used(disk, async (io) => {
      for (const { offset, length, fill } of all) await io.write(offset, Buffer.alloc(length, fill));
    });

  it('what changed since a tag makes the newer content out of the older, whatever was written', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    let round = 0;
    await assert(
      asyncProperty(writes, writes, writes, async (first, second, third) => {
        const [one, two] = [`a${++round}`, `b${round}`];
        await apply(disk, first);
        await backend.ensureTag(disk, one);
        await apply(disk, second);
        await backend.ensureTag(disk, two);
        await apply(disk, third);
        const [older, newer, now] = [
          await suite.content({ disk, tag: one }),
          await suite.content({ disk, tag: two }),
          await suite.content({ disk }),
        ];
        expect((await applied(older, { disk, tag: two }, one)).bytes.equals(newer)).toBe(true);
        expect((await applied(older, { disk }, one)).bytes.equals(now)).toBe(true);
        expect((await applied(newer, { disk }, two)).bytes.equals(now)).toBe(true);
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  it('a small change is a small difference, and of a tag with itself there is none to read', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'base');
    await suite.write(disk, 3 * MiB, Buffer.alloc(4096, 1));
    await backend.ensureTag(disk, 'next');
    const older = await suite.content({ disk, tag: 'base' });
    for (const readable of [{ disk }, { disk, tag: 'next' }]) {
      const { bytes, changed } = await applied(older, readable, 'base');
      expect(bytes.equals(await suite.content(readable))).toBe(true);
      expect(changed).toBeGreaterThanOrEqual(4096);
      expect(changed).toBeLessThan(imageBytes / 2);
    }
    expect((await applied(older, { disk, tag: 'base' }, 'base')).bytes.equals(older)).toBe(true);
  });

  it('tells what changed across a new size, and across tags that were removed', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'old');
    await suite.write(disk, MiB, Buffer.alloc(MiB, 1));
    await backend.ensureTag(disk, 'between');
    await backend.ensureSize(disk, 2 * imageBytes);
    await suite.write(disk, 2 * imageBytes - 512, Buffer.alloc(512, 2));
    await suite.write(disk, 20 * MiB, Buffer.alloc(MiB));
    await backend.ensureNoTag(disk, 'between');
    const older = await suite.content({ disk, tag: 'old' });
    expect((await applied(older, { disk }, 'old')).bytes.equals(await suite.content({ disk }))).toBe(true);
  });

  it('tells what changed across a flattening', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'old');
    await suite.write(disk, MiB, Buffer.alloc(MiB, 1));
    await backend.ensureFlat(disk);
    await suite.write(disk, 8 * MiB, Buffer.alloc(512, 2));
    const older = await suite.content({ disk, tag: 'old' });
    expect((await applied(older, { disk }, 'old')).bytes.equals(await suite.content({ disk }))).toBe(true);
  });

  it('there is no difference to a tag that is not there', async () => {
    const disk = await suite.clone(1);
    await suite.backend.ensureTag(disk, 'mine');
    for (const readable of [{ disk }, { disk, tag: 'mine' }, { golden: suite.name(0) }]) {
      const older = Buffer.alloc(0);
      await expect(applied(older, readable, 'absent')).rejects.toMatchObject({ code: 'storage.not_found' });
    }
  });
}
