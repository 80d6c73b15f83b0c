import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { DiskVolume } from '../storage.port.js';
import { imageBytes, MiB } from './images.js';
import { doneUnless, patched, stoppedHalfway, whole } from './suite.js';
import type { Suite } from './suite.js';

/** Disks that are made independent of their origin. */
export function flattening(suite: Suite): void {
  const patch = randomBytes(MiB + 512);
  const written = () => patched(suite.images.bytes, 5 * MiB + 512, patch);
  const cloneAndWrite = async (): Promise<DiskVolume> => {
    const disk = await suite.clone(1);
    await suite.write(disk, 5 * MiB + 512, patch);
    return disk;
  };

  it('a flat disk needs its golden volume no more', async () => {
    const { backend } = suite;
    const disk = await cloneAndWrite();
    await expect(backend.ensureNoGolden(suite.name(0))).rejects.toMatchObject({ code: 'storage.in_use' });
    const progress: [done: number, total: number][] = [];
    await backend.ensureFlat(disk, { onProgress: (done, total) => progress.push([done, total]) });
    expect(progress).toEqual(progress.toSorted(([a], [b]) => a - b));
    expect(progress.at(-1)).toEqual([imageBytes, imageBytes]);
    await backend.ensureFlat(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect(await suite.names()).toEqual([disk.name]);
    expect((await suite.content({ disk })).equals(written())).toBe(true);
    // It still behaves like any other disk.
    await suite.write(disk, 0, Buffer.alloc(4096, 1));
    await backend.ensureTag(disk, 'later');
    await backend.ensureClone({ disk, tag: 'later' }, suite.disk(2));
    await backend.ensureSize(disk, 2 * imageBytes);
    const expected = patched(written(), 0, Buffer.alloc(4096, 1));
    expect((await suite.used(suite.disk(2), whole)).equals(expected)).toBe(true);
    await backend.ensureNoDisk(suite.disk(2));
    await backend.ensureNoDisk(disk);
    expect(await suite.mine()).toEqual([]);
  });

  it('aborted, it is a clone still, and whole', async () => {
    const { backend } = suite;
    const disk = await cloneAndWrite();
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(backend.ensureFlat(disk, { signal })).rejects.toBe(signal.reason);
    await expect(backend.ensureNoGolden(suite.name(0))).rejects.toMatchObject({ code: 'storage.in_use' });
    const stopped = await stoppedHalfway((work) => backend.ensureFlat(disk, work));
    expect(await doneUnless('storage.in_use', backend.ensureNoGolden(suite.name(0)))).toBe(!stopped);
    expect((await suite.used(disk, whole)).equals(written())).toBe(true);
    await backend.ensureFlat(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect((await suite.used(disk, whole)).equals(written())).toBe(true);
  });

  it('a disk with tags keeps them', async () => {
    const { backend } = suite;
    const disk = await cloneAndWrite();
    await backend.ensureTag(disk, 'before');
    await suite.write(disk, 0, Buffer.alloc(MiB, 9));
    await backend.ensureFlat(disk);
    await backend.ensureTag(disk, 'after');
    await suite.write(disk, 0, Buffer.alloc(MiB, 8));
    const now = patched(written(), 0, Buffer.alloc(MiB, 9));
    expect((await suite.content({ disk, tag: 'before' })).equals(written())).toBe(true);
    expect((await suite.content({ disk, tag: 'after' })).equals(now)).toBe(true);
    await backend.ensureClone({ disk, tag: 'before' }, suite.disk(2));
    expect((await suite.used(suite.disk(2), whole)).equals(written())).toBe(true);
    await backend.ensureNoDisk(suite.disk(2));
    // The tag may still have depended on it. Without the tag, nothing does.
    await backend.ensureNoTag(disk, 'before');
    await backend.ensureNoGolden(suite.name(0));
    expect((await suite.content({ disk, tag: 'after' })).equals(now)).toBe(true);
    expect((await suite.content({ disk })).equals(patched(now, 0, Buffer.alloc(MiB, 8)))).toBe(true);
  });

  it('a disk in use is made flat, or refused and left as it is', async () => {
    const { backend } = suite;
    const disk = await cloneAndWrite();
    await suite.held(disk, async (io) => {
      await doneUnless('storage.in_use', backend.ensureFlat(disk));
      await io.write(0, Buffer.alloc(4096, 3));
      expect((await whole(io)).equals(patched(written(), 0, Buffer.alloc(4096, 3)))).toBe(true);
    });
    await backend.ensureDetached(disk);
    await backend.ensureFlat(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect((await suite.content({ disk })).equals(patched(written(), 0, Buffer.alloc(4096, 3)))).toBe(true);
  });

  it('there is nothing to make flat where there is no disk', async () => {
    await suite.golden();
    for (const n of [0, 9]) {
      await expect(suite.backend.ensureFlat(suite.disk(n))).rejects.toMatchObject({ code: 'storage.not_found' });
    }
  });

  it('ends clean when there is no space for it', async (context) => {
    const { fill } = suite.harness;
    if (typeof fill === 'string') return context.skip(fill);
    const disk = await cloneAndWrite();
    await fill.leave(4 * MiB);
    try {
      // A backend that shares equal blocks needs no space.
      await doneUnless('storage.full', suite.backend.ensureFlat(disk));
    } finally {
      await fill.undo();
    }
    expect((await suite.content({ disk })).equals(written())).toBe(true);
    await suite.backend.ensureFlat(disk);
    expect((await suite.used(disk, whole)).equals(written())).toBe(true);
  });
}
