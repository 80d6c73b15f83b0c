import { expect, it } from 'vitest';
import { imageBytes } from './images.js';
import type { Suite } from './suite.js';

/** Listing, names and health. */
export function housekeeping(suite: Suite): void {
  it('lists every volume with its kind, size and tags', async () => {
    const { backend } = suite;
    const golden = await suite.golden();
    await backend.ensureClone({ golden }, suite.disk(1), { sizeBytes: 2 * imageBytes });
    await backend.ensureTag(suite.disk(1), 'b');
    await backend.ensureTag(suite.disk(1), 'a');
    await backend.ensureClone({ disk: suite.disk(1), tag: 'a' }, suite.disk(2));
    const infos = new Map((await suite.mine()).map((info) => [info.name, { ...info, tags: info.tags.toSorted() }]));
    expect(infos.size).toBe(3);
    expect(infos.get(golden)).toMatchObject({ kind: 'golden', sizeBytes: imageBytes, project: null, tags: [] });
    expect(infos.get(suite.name(1))).toMatchObject({ kind: 'disk', sizeBytes: 2 * imageBytes, tags: ['a', 'b'] });
    expect(infos.get(suite.name(2))).toMatchObject({ kind: 'disk', sizeBytes: 2 * imageBytes, tags: [] });
  });

  it('removes at once, frees what is left afterwards, and then has nothing more of it', async () => {
    const { backend } = suite;
    const told: string[] = [];
    backend.onRemoved(({ name }) => told.push(name));
    const golden = await suite.golden();
    await backend.ensureClone({ golden }, suite.disk(1));
    await backend.ensureTag(suite.disk(1), 'a');
    await backend.ensureNoTag(suite.disk(1), 'a');
    await backend.ensureNoDisk(suite.disk(1));
    // Although what is left of the disk may still be a clone of it.
    await backend.ensureNoGolden(golden);
    expect(await suite.mine()).toEqual([]);
    const left = (await backend.removed()).filter(({ name }) => [golden, suite.name(1)].includes(name));
    expect(left.map(({ name }) => name).toSorted()).toEqual(told.toSorted());
    // Called again, as after a crash, it tells of them again.
    await backend.ensureNoDisk(suite.disk(1));
    await backend.ensureNoGolden(golden);
    expect(told).toHaveLength(2 * left.length);
    // Clones before what they were cloned from.
    for (const volume of left.toSorted((a, b) => Number(a.project === null) - Number(b.project === null))) {
      await backend.ensureFreed(volume);
      await backend.ensureFreed(volume);
    }
    expect((await backend.removed()).filter(({ name }) => told.includes(name))).toEqual([]);
  });

  it('refuses names that are not volume names', async () => {
    const { backend, images } = suite;
    const golden = await suite.golden();
    const long = `${'a'.repeat(33)}img1`;
    for (const bad of [
      '',
      'a1',
      'A1img1',
      'img1',
      'a1img',
      '../a1img1',
      'a1img1/x',
      'a1img1\n',
      'a1img1.golden',
      long,
    ]) {
      const disk = { project: suite.projects[0], name: bad };
      for (const call of [
        () => backend.ensureGolden(bad, { path: images.raw, format: 'raw' }),
        () => backend.ensureGolden(suite.name(1), { golden: bad }),
        () => backend.ensureGolden(suite.name(1), { disk, tag: 'a' }),
        () => backend.ensureClone({ golden: bad }, suite.disk(1)),
        () => backend.ensureClone({ disk, tag: 'a' }, suite.disk(1)),
        () => backend.ensureClone({ golden }, disk),
        () => backend.ensureTag(disk, 'a'),
        () => backend.ensureNoTag(disk, 'a'),
        () => backend.ensureSize(disk, imageBytes),
        () => backend.ensureFlat(disk),
        () => backend.ensureNoGolden(bad),
        () => backend.ensureNoDisk(disk),
        () => backend.ensureAttached(disk),
        () => backend.ensureDetached(disk),
        () => backend.openReader({ golden: bad }),
        () => backend.openReader({ disk }),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: 'storage.bad_name' });
      }
    }
  });

  it('refuses names that are not tags', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    for (const tag of ['', 'A', 'a b', 'a.b', 'a@b', '../a', 'a\n', 'ä', 'a'.repeat(41)]) {
      for (const call of [
        () => backend.ensureTag(disk, tag),
        () => backend.ensureNoTag(disk, tag),
        () => backend.ensureClone({ disk, tag }, suite.disk(2)),
        () => backend.ensureGolden(suite.name(2), { disk, tag }),
        () => backend.openReader({ disk, tag }),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: 'storage.bad_name' });
      }
    }
  });

  it('takes the longest names', async () => {
    const { backend } = suite;
    const origin = { golden: await suite.golden() };
    const [disk, fork] = ['z', 'y'].map((letter) => ({
      project: suite.projects[0],
      name: `${letter.repeat(32)}img999999999999`,
    })) as [{ project: string; name: string }, { project: string; name: string }];
    const tag = '9'.repeat(40);
    await backend.ensureClone(origin, disk);
    await suite.held(disk, () => backend.ensureTag(disk, tag));
    await backend.ensureDetached(disk);
    await backend.ensureClone({ disk, tag }, fork);
    await suite.write(fork, 0, Buffer.alloc(512, 1));
    await backend.ensureNoDisk(fork);
    await backend.ensureNoTag(disk, tag);
    await backend.ensureNoDisk(disk);
    const left = (await backend.list()).map((info) => info.name);
    expect(left.filter((name) => name === disk.name || name === fork.name)).toEqual([]);
  });

  it('says that it is healthy', async () => {
    await expect(suite.backend.health()).resolves.toBeUndefined();
  });
}
