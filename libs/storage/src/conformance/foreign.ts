import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import type { ForeignVolumes } from './harness.js';
import { imageBytes } from './images.js';
import { stoppedHalfway } from './suite.js';
import type { Suite } from './suite.js';

/** Volumes of the storage that M2 does not own: copied from, and copied to. */
export function foreignVolumes(suite: Suite): void {
  const supported = (skip: (reason: string) => never): ForeignVolumes => {
    const { foreign } = suite.harness;
    return typeof foreign === 'string' ? skip(foreign) : foreign;
  };

  it('storage without volumes of others says so', async (context) => {
    if (typeof suite.harness.foreign !== 'string') context.skip('this storage has volumes of others');
    const golden = await suite.golden();
    for (const call of [
      () => suite.backend.ensureGolden(suite.name(1), { foreign: 'theirs' }),
      () => suite.backend.copyToForeign({ golden }, 'theirs', { key: randomUUID() }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'storage.unsupported' });
    }
    expect(await suite.names()).toEqual([golden]);
  });

  it('a golden volume is made from a volume of others, which stays as it was', async (context) => {
    const foreign = supported(context.skip);
    const theirs = await foreign.make(suite.images.raw);
    const golden = suite.name(0);
    const info = await suite.backend.ensureGolden(golden, { foreign: theirs });
    expect(info).toMatchObject({ kind: 'golden', sizeBytes: imageBytes });
    expect(await suite.backend.ensureGolden(golden, { foreign: theirs })).toEqual(info);
    expect((await suite.content({ golden })).equals(suite.images.bytes)).toBe(true);
    await suite.backend.ensureNoGolden(golden);
    expect((await foreign.read(theirs)).equals(suite.images.bytes)).toBe(true);
    expect((await suite.backend.list()).map((volume) => volume.name)).not.toContain(theirs);
  });

  it('there is no golden volume from a volume that is not there', async (context) => {
    const foreign = supported(context.skip);
    await expect(suite.backend.ensureGolden(suite.name(0), { foreign: foreign.freeName() })).rejects.toMatchObject({
      code: 'storage.not_found',
    });
    expect(await suite.mine()).toEqual([]);
  });

  it('a golden volume and a tag are copied to volumes of others, which need them no more', async (context) => {
    const { backend } = suite;
    const foreign = supported(context.skip);
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'given');
    const copies: string[] = [];
    for (const origin of [{ golden: suite.name(0) }, { disk, tag: 'given' }]) {
      const copy = foreign.freeName();
      const progress: [done: number, total: number][] = [];
      await backend.copyToForeign(origin, copy, {
        key: randomUUID(),
        onProgress: (done, total) => progress.push([done, total]),
      });
      expect(progress).toEqual(progress.toSorted(([a], [b]) => a - b));
      expect(progress.at(-1)).toEqual([imageBytes, imageBytes]);
      copies.push(copy);
    }
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(suite.name(0));
    for (const copy of copies) expect((await foreign.read(copy)).equals(suite.images.bytes)).toBe(true);
  });

  it('a copy is found again by its key, and taken back by it, and by no other', async (context) => {
    const { backend } = suite;
    const foreign = supported(context.skip);
    const golden = await suite.golden();
    const [copy, key] = [foreign.freeName(), randomUUID()];
    await backend.copyToForeign({ golden }, copy, { key });
    await backend.copyToForeign({ golden }, copy, { key });
    await expect(backend.copyToForeign({ golden }, copy, { key: randomUUID() })).rejects.toMatchObject({
      code: 'storage.exists_differently',
    });
    await backend.ensureNoForeign(copy, randomUUID());
    expect(await foreign.exists(copy)).toBe(true);
    await backend.ensureNoForeign(copy, key);
    await backend.ensureNoForeign(copy, key);
    expect(await foreign.exists(copy)).toBe(false);
  });

  it('no volume of others is replaced, and none stays half-made', async (context) => {
    const { backend } = suite;
    const foreign = supported(context.skip);
    const golden = await suite.golden();
    const theirs = await foreign.make(suite.images.raw);
    await expect(backend.copyToForeign({ golden }, theirs, { key: randomUUID() })).rejects.toMatchObject({
      code: 'storage.exists_differently',
    });
    expect((await foreign.read(theirs)).equals(suite.images.bytes)).toBe(true);
    const absent = foreign.freeName();
    await expect(backend.copyToForeign({ golden: suite.name(9) }, absent, { key: randomUUID() })).rejects.toMatchObject(
      {
        code: 'storage.not_found',
      },
    );
    expect(await foreign.exists(absent)).toBe(false);
    const copy = foreign.freeName();
    const stopped = await stoppedHalfway((work) =>
      backend.copyToForeign({ golden }, copy, { ...work, key: randomUUID() }),
    );
    expect(await foreign.exists(copy)).toBe(!stopped);
  });
}
