import { randomBytes, randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { imageBytes, MiB } from './images.js';
import { doneUnless, patched, whole } from './suite.js';
import type { Suite } from './suite.js';

/** Copy-on-write clones of golden volumes, and of each other's tags. */
export function clones(suite: Suite): void {
  it('clones are independent of each other and of their golden volume', async () => {
    const [one, two] = [await suite.clone(1), await suite.clone(2)];
    const { bytes } = suite.images;
    await suite.held(one, (a) =>
      suite.held(two, async (b) => {
        await a.write(5 * MiB + 512, Buffer.alloc(4096, 0xaa));
        await b.write(0, Buffer.alloc(4096, 0xbb));
        expect((await whole(a)).equals(patched(bytes, 5 * MiB + 512, Buffer.alloc(4096, 0xaa)))).toBe(true);
        expect((await whole(b)).equals(patched(bytes, 0, Buffer.alloc(4096, 0xbb)))).toBe(true);
      }),
    );
    expect((await suite.used(await suite.clone(3), whole)).equals(bytes)).toBe(true);
  });

  it('cloning again finds the clone, and refuses another origin or size', async () => {
    const { backend } = suite;
    const disk = suite.disk(1);
    const origin = { golden: await suite.golden() };
    const first = await backend.ensureClone(origin, disk);
    expect(first).toMatchObject({ name: disk.name, kind: 'disk', sizeBytes: imageBytes, tags: [] });
    expect(await backend.ensureClone(origin, disk)).toEqual(first);
    const other = { golden: await suite.golden(2) };
    for (const again of [
      () => backend.ensureClone(other, disk),
      () => backend.ensureClone(origin, disk, { sizeBytes: imageBytes + MiB }),
    ]) {
      await expect(again()).rejects.toMatchObject({ code: 'storage.exists_differently' });
    }
  });

  it('there is nothing to clone where there is no origin', async () => {
    const disk = await suite.clone(1);
    for (const origin of [
      { golden: suite.name(9) },
      { golden: disk.name },
      { disk, tag: 'absent' },
      { disk: suite.disk(9), tag: 'absent' },
    ]) {
      await expect(suite.backend.ensureClone(origin, suite.disk(3))).rejects.toMatchObject({
        code: 'storage.not_found',
      });
    }
    expect(await suite.names()).toEqual([suite.name(0), suite.name(1)]);
  });

  it('a clone may be larger than its golden volume, and no smaller', async () => {
    const { backend } = suite;
    const sizeBytes = 3 * 2 ** 30 + 512;
    const origin = { golden: await suite.golden() };
    expect(await backend.ensureClone(origin, suite.disk(1), { sizeBytes })).toMatchObject({ sizeBytes });
    await suite.held(suite.disk(1), async (io) => {
      expect(io.sizeBytes).toBe(sizeBytes);
      expect(await io.read(imageBytes, 4096)).toEqual(Buffer.alloc(4096));
      await io.write(sizeBytes - 512, Buffer.alloc(512, 0xcc));
      expect(await io.read(sizeBytes - 512, 512)).toEqual(Buffer.alloc(512, 0xcc));
    });
    for (const wrong of [imageBytes - 512, imageBytes + 1, Number.NaN, 2 ** 60]) {
      await expect(backend.ensureClone(origin, suite.disk(2), { sizeBytes: wrong })).rejects.toMatchObject({
        code: 'storage.bad_size',
      });
    }
  });

  it('a clone of a clone of a clone has what each of them wrote', async () => {
    const { backend } = suite;
    let disk = await suite.clone(1);
    let expected = suite.images.bytes;
    for (let depth = 1; depth <= 4; depth++) {
      const patch = randomBytes(64 * 1024 + 512);
      // Overlapping, so that a layer has parts of what an older one has.
      expected = patched(expected, depth * 48 * 1024, patch);
      await suite.write(disk, depth * 48 * 1024, patch);
      expect((await suite.content({ disk })).equals(expected)).toBe(true);
      if (depth === 4) break;
      await backend.ensureTag(disk, 'next');
      const next = suite.disk(depth + 1);
      const origin = { disk, tag: 'next' };
      const made = await backend.ensureClone(origin, next);
      expect(await backend.ensureClone(origin, next)).toEqual(made);
      await expect(backend.ensureClone({ golden: suite.name(0) }, next)).rejects.toMatchObject({
        code: 'storage.exists_differently',
      });
      disk = next;
    }
    expect((await suite.used(disk, whole)).equals(expected)).toBe(true);
    for (let n = 1; n <= 3; n++) {
      await expect(backend.ensureNoDisk(suite.disk(n))).rejects.toMatchObject({ code: 'storage.in_use' });
    }
    for (let n = 4; n >= 1; n--) await backend.ensureNoDisk(suite.disk(n));
    await backend.ensureNoGolden(suite.name(0));
    expect(await suite.mine()).toEqual([]);
  });

  it('disks of two projects come from one golden volume', async () => {
    const { backend, projects } = suite;
    const golden = await suite.golden();
    const disks = projects.map((project, n) => ({ project, name: suite.name(n + 1) }));
    for (const disk of disks) await backend.ensureClone({ golden }, disk);
    const infos = (await suite.mine()).filter((info) => info.kind === 'disk');
    const kept = infos.map(({ project, name }) => ({ project, name })).sort((a, b) => (a.name < b.name ? -1 : 1));
    // A backend that separates projects knows the project of a disk; the others return none.
    expect([disks, disks.map(({ name }) => ({ project: null, name }))]).toContainEqual(kept);
    for (const disk of disks) {
      await suite.write(disk, 0, Buffer.from(disk.name.padEnd(512)));
      expect((await suite.read(disk, 0, 512)).toString().trim()).toBe(disk.name);
    }
    // From one project to the other, as when an image made from a tag is shared.
    await backend.ensureTag(disks[0]!, 'shared');
    const across = { project: projects[1], name: suite.name(3) };
    await backend.ensureClone({ disk: disks[0]!, tag: 'shared' }, across);
    expect((await suite.read(across, 0, 512)).toString().trim()).toBe(disks[0]!.name);
  });

  it('forgets a project whose volumes are gone, and which can begin anew', async () => {
    const { backend } = suite;
    const disk = { project: randomUUID(), name: suite.name(1) };
    const origin = { golden: await suite.golden() };
    await backend.ensureNoProject(disk.project);
    for (let round = 1; round <= 2; round++) {
      await backend.ensureClone(origin, disk);
      const kept = (await suite.mine()).find(({ name }) => name === disk.name);
      // A backend that separates projects knows that this one has a disk; the others keep nothing for it.
      const forgot = await doneUnless('storage.in_use', backend.ensureNoProject(disk.project));
      expect(forgot).toBe(kept?.project === null);
      expect((await suite.used(disk, whole)).equals(suite.images.bytes)).toBe(true);
      await backend.ensureNoDisk(disk);
      for (const volume of await backend.removed())
        if (volume.project === disk.project) await backend.ensureFreed(volume);
      await backend.ensureNoProject(disk.project);
      await backend.ensureNoProject(disk.project);
    }
  });
}
