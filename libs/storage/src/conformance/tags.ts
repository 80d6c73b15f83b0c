import { randomBytes, randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { imageBytes, MiB } from './images.js';
import { patched, until, whole } from './suite.js';
import type { Suite } from './suite.js';

/** Tags: a disk as it was at one moment. */
export function tags(suite: Suite): void {
  const block = (value: number) => Buffer.alloc(4096, value);
  const first = async (readable: Parameters<Suite['content']>[0]) => (await suite.content(readable))[0];

  it('each tag keeps the disk as it was, whatever is written later', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const expected = new Map<string, Buffer>();
    let now = suite.images.bytes;
    for (const [n, tag] of ['one', 'two', 'three'].entries()) {
      const patch = randomBytes(200 * 1024);
      now = patched(now, n * 100 * 1024 + 512, patch);
      await suite.write(disk, n * 100 * 1024 + 512, patch);
      await backend.ensureTag(disk, tag);
      expected.set(tag, now);
    }
    await suite.write(disk, 0, randomBytes(2 * MiB));
    for (const [tag, bytes] of expected) expect((await suite.content({ disk, tag })).equals(bytes)).toBe(true);
    // The one in the middle is removed; what it kept for the others stays.
    await backend.ensureNoTag(disk, 'two');
    await backend.ensureNoTag(disk, 'two');
    await expect(backend.openReader({ disk, tag: 'two' })).rejects.toMatchObject({ code: 'storage.not_found' });
    for (const tag of ['one', 'three']) {
      expect((await suite.content({ disk, tag })).equals(expected.get(tag)!)).toBe(true);
    }
    expect(await suite.tagsOf(disk)).toEqual(['one', 'three']);
  });

  it('tagging again keeps the first moment; a tag that was removed can be made anew', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await suite.write(disk, 0, block(1));
    await backend.ensureTag(disk, 'same');
    await suite.write(disk, 0, block(2));
    await backend.ensureTag(disk, 'same');
    expect(await first({ disk, tag: 'same' })).toBe(1);
    await backend.ensureNoTag(disk, 'same');
    await backend.ensureTag(disk, 'same');
    expect(await first({ disk, tag: 'same' })).toBe(2);
  });

  it('there is nothing to tag where there is no disk, and nothing to forget', async () => {
    const { backend } = suite;
    await suite.golden();
    await expect(backend.ensureTag(suite.disk(9), 'none')).rejects.toMatchObject({ code: 'storage.not_found' });
    await expect(backend.ensureTag(suite.disk(0), 'none')).rejects.toMatchObject({ code: 'storage.not_found' });
    await backend.ensureNoTag(suite.disk(9), 'none');
  });

  it('a tag with clones stays until they are gone or independent', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'base');
    for (const n of [2, 3]) await backend.ensureClone({ disk, tag: 'base' }, suite.disk(n));
    const inUse = async () => {
      await expect(backend.ensureNoTag(disk, 'base')).rejects.toMatchObject({ code: 'storage.in_use' });
      await expect(backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
    };
    await inUse();
    await backend.ensureNoDisk(suite.disk(2));
    await inUse();
    expect((await suite.content({ disk })).equals(suite.images.bytes)).toBe(true);
    await backend.ensureFlat(suite.disk(3));
    await backend.ensureNoTag(disk, 'base');
    await backend.ensureNoDisk(disk);
    expect((await suite.content({ disk: suite.disk(3) })).equals(suite.images.bytes)).toBe(true);
  });

  it('a disk goes with its tags, and then its golden volume can go', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    for (const tag of ['a', 'b', 'c']) {
      await suite.write(disk, 0, randomBytes(4096));
      await backend.ensureTag(disk, tag);
    }
    await expect(backend.ensureNoGolden(suite.name(0))).rejects.toMatchObject({ code: 'storage.in_use' });
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect(await suite.mine()).toEqual([]);
  });

  it('a disk is rolled back: the clone of its tag takes its place, and the old one stays', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await suite.write(disk, MiB, block(1));
    await backend.ensureTag(disk, 'good');
    await suite.write(disk, MiB, block(2));
    await backend.ensureClone({ disk, tag: 'good' }, suite.disk(2));
    expect(await suite.read(suite.disk(2), MiB, 4096)).toEqual(block(1));
    await suite.write(suite.disk(2), MiB, block(3));
    expect(await suite.read(disk, MiB, 4096)).toEqual(block(2));
    expect((await suite.content({ disk, tag: 'good' })).subarray(MiB, MiB + 4096)).toEqual(block(1));
  });

  it('a clone of a tag may be larger, and no smaller, than the disk was', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'base');
    const sizeBytes = imageBytes + 5 * MiB;
    const origin = { disk, tag: 'base' };
    expect(await backend.ensureClone(origin, suite.disk(2), { sizeBytes })).toMatchObject({ sizeBytes });
    expect(await suite.read(suite.disk(2), sizeBytes - 4096, 4096)).toEqual(block(0));
    await expect(backend.ensureClone(origin, suite.disk(3), { sizeBytes: MiB })).rejects.toMatchObject({
      code: 'storage.bad_size',
    });
  });

  it('tags of a disk that is written to are each one moment of it', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const [near, far] = [MiB, imageBytes - MiB];
    const taken: { tag: string; before: number; after: number }[] = [];
    await suite.held(disk, async (io) => {
      const write = async (value: number) => {
        const bytes = Buffer.alloc(4096);
        bytes.writeUInt32LE(value);
        await io.write(near, bytes);
        await io.write(far, bytes);
        written = value;
      };
      let written = 0;
      const stop = new AbortController();
      await write(0);
      const writing = (async () => {
        for (let value = 1; !stop.signal.aborted; value++) await write(value);
      })();
      try {
        for (let n = 0; n < 5; n++) {
          const before = written;
          await backend.ensureTag(disk, `t${n}`);
          taken.push({ tag: `t${n}`, before, after: written + 1 });
          await until(() => written > before + 2);
        }
      } finally {
        stop.abort();
        await writing;
      }
      expect((await io.read(far, 4)).readUInt32LE()).toBe(written);
      // Forked while the disk is in use, and used at the same time.
      await backend.ensureClone({ disk, tag: 't4' }, suite.disk(2));
      await suite.used(suite.disk(2), (fork) => fork.write(0, block(7)));
      expect(await io.read(0, 4096)).toEqual(suite.images.bytes.subarray(0, 4096));
    });
    await backend.ensureDetached(disk);
    for (const { tag, before, after } of taken) {
      const bytes = await suite.content({ disk, tag });
      const [one, two] = [bytes.readUInt32LE(near), bytes.readUInt32LE(far)];
      // The two are written one after the other. What was durable when the tag was asked for is in it; what began after it was created is
      // not.
      expect(one - two, `${tag}: ${one} and ${two}`).toBeOneOf([0, 1]);
      expect(two).toBeGreaterThanOrEqual(before);
      expect(one).toBeLessThanOrEqual(after);
    }
    const fork = await suite.used(suite.disk(2), whole);
    expect(fork.readUInt32LE(near)).toBeGreaterThanOrEqual(taken.at(-1)!.before);
    expect(fork.subarray(0, 4096)).toEqual(block(7));
  });

  it('a disk that is tagged again and again while it is written to has all that was written', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const model = Buffer.from(suite.images.bytes);
    const half = imageBytes / 2;
    await suite.held(disk, async (io) => {
      const stop = new AbortController();
      // Parts of blocks, so that a layer needs the rest from the layers below.
      const writer = async (base: number) => {
        while (!stop.signal.aborted) {
          const bytes = randomBytes(512 * randomInt(1, 24));
          const at = base + 512 * randomInt((half - bytes.length) / 512);
          bytes.copy(model, at);
          await io.write(at, bytes);
        }
      };
      const writing = Promise.all([writer(0), writer(half)]);
      try {
        for (let n = 0; n < 10; n++) {
          await backend.ensureTag(disk, `t${n}`);
          if (n % 3 === 0) await backend.ensureNoTag(disk, `t${n}`);
        }
      } finally {
        stop.abort();
        await writing;
      }
      // Opened again, so that nothing comes from a cache.
      expect((await suite.held(disk, whole)).equals(model)).toBe(true);
    });
    await backend.ensureDetached(disk);
    expect((await suite.content({ disk })).equals(model)).toBe(true);
    expect((await suite.used(disk, whole)).equals(model)).toBe(true);
  });

  it('many tags at once are all there', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const names = Array.from({ length: 8 }, (_, n) => `tag${n}`);
    await Promise.all([...names, ...names].map((tag) => backend.ensureTag(disk, tag)));
    for (const tag of names) expect((await suite.content({ disk, tag })).equals(suite.images.bytes)).toBe(true);
    await Promise.all(names.slice(1).map((tag) => backend.ensureNoTag(disk, tag)));
    expect(await suite.tagsOf(disk)).toEqual(['tag0']);
    expect((await suite.content({ disk })).equals(suite.images.bytes)).toBe(true);
  });
}
