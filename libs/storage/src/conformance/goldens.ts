import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { GoldenSource } from '../storage.port.js';
import { imageBytes, MiB } from './images.js';
import { patched, stoppedHalfway, whole } from './suite.js';
import type { Suite } from './suite.js';

/** Golden volumes: made from files, tags and other golden volumes. */
export function goldens(suite: Suite): void {
  const raw = (): GoldenSource => ({ path: suite.images.raw, format: 'raw' });

  /** Creates `name(n)` and checks the progress that it reports. */
  const made = async (n: number, source: GoldenSource) => {
    const progress: [done: number, total: number][] = [];
    const info = await suite.backend.ensureGolden(suite.name(n), source, {
      onProgress: (done, total) => progress.push([done, total]),
    });
    expect(info).toMatchObject({ name: suite.name(n), project: null, kind: 'golden', sizeBytes: imageBytes, tags: [] });
    expect(progress).toEqual(progress.toSorted(([a], [b]) => a - b));
    expect(progress.at(-1)).toEqual([imageBytes, imageBytes]);
    return suite.name(n);
  };

  for (const [title, file, format] of [
    ['raw', 'raw', 'raw'],
    ['qcow2', 'qcow2', 'qcow2'],
    ['vmdk', 'vmdk', 'vmdk'],
    ['stream-optimized vmdk', 'streamVmdk', 'vmdk'],
  ] as const) {
    it(`imports a ${title} image that reads back identical`, async () => {
      const golden = await made(0, { path: suite.images[file], format });
      await suite.backend.ensureClone({ golden }, suite.disk(1));
      expect((await suite.used(suite.disk(1), whole)).equals(suite.images.bytes)).toBe(true);
      expect((await suite.content({ golden })).equals(suite.images.bytes)).toBe(true);
    });
  }

  it('imports once, and refuses another image under the same name', async () => {
    const { backend, images } = suite;
    const copy = join(images.directory, 'copy.raw');
    await writeFile(copy, images.bytes);
    const first = await backend.ensureGolden(suite.name(0), { path: copy, format: 'raw' });
    expect(await backend.ensureGolden(suite.name(0), raw())).toEqual(first);
    // A repeated import may have deleted its file.
    await rm(copy);
    expect(await backend.ensureGolden(suite.name(0), { path: copy, format: 'raw' })).toEqual(first);
    await writeFile(copy, randomBytes(MiB));
    await expect(backend.ensureGolden(suite.name(0), { path: copy, format: 'raw' })).rejects.toMatchObject({
      code: 'storage.exists_differently',
    });
  });

  it('leaves nothing of an import that failed or was cancelled', async () => {
    const { backend, images } = suite;
    for (const format of ['qcow2', 'vmdk'] as const) {
      await expect(backend.ensureGolden(suite.name(0), { path: images.raw, format })).rejects.toMatchObject({
        code: 'storage.bad_source',
      });
    }
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(backend.ensureGolden(suite.name(0), raw(), { signal })).rejects.toBe(signal.reason);
    expect(await suite.mine()).toEqual([]);
  });

  it('a tag becomes a golden volume that needs neither the tag nor its disk', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const patch = randomBytes(MiB);
    await suite.write(disk, 7 * MiB, patch);
    await backend.ensureTag(disk, 'deep');
    await suite.write(disk, 0, randomBytes(MiB));
    const golden = await made(2, { disk, tag: 'deep' });
    await backend.ensureNoTag(disk, 'deep');
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(suite.name(0));
    const expected = patched(suite.images.bytes, 7 * MiB, patch);
    expect((await suite.content({ golden })).equals(expected)).toBe(true);
    await backend.ensureClone({ golden }, suite.disk(3));
    expect((await suite.used(suite.disk(3), whole)).equals(expected)).toBe(true);
    // Found again although its origin is gone.
    expect(await backend.ensureGolden(golden, { disk, tag: 'deep' })).toMatchObject({ name: golden });
  });

  it('a golden volume is copied, also while the tagged disk goes on being used', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const first = await made(2, { golden: suite.name(0) });
    await suite.held(disk, async (io) => {
      await io.write(MiB, Buffer.alloc(4096, 0x51));
      await backend.ensureTag(disk, 'now');
      const [golden] = await Promise.all([made(3, { disk, tag: 'now' }), io.write(MiB, Buffer.alloc(4096, 0x52))]);
      expect((await suite.content({ golden })).subarray(MiB, MiB + 4096)).toEqual(Buffer.alloc(4096, 0x51));
      expect(await io.read(MiB, 4096)).toEqual(Buffer.alloc(4096, 0x52));
    });
    await backend.ensureDetached(disk);
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect((await suite.content({ golden: first })).equals(suite.images.bytes)).toBe(true);
  });

  it('a copy that is aborted half-way leaves nothing, and its origin whole', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await backend.ensureTag(disk, 'deep');
    const before = await suite.names();
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(backend.ensureGolden(suite.name(2), { disk, tag: 'deep' }, { signal })).rejects.toBe(signal.reason);
    const stopped = await stoppedHalfway((work) => backend.ensureGolden(suite.name(2), { disk, tag: 'deep' }, work));
    if (!stopped) await backend.ensureNoGolden(suite.name(2));
    expect(await suite.names()).toEqual(before);
    expect((await suite.content({ disk, tag: 'deep' })).equals(suite.images.bytes)).toBe(true);
    await made(2, { disk, tag: 'deep' });
  });

  it('says that there is no such origin, and makes nothing', async () => {
    const disk = await suite.clone(1);
    for (const source of [{ golden: suite.name(9) }, { disk, tag: 'absent' }, { disk: suite.disk(9), tag: 'absent' }]) {
      await expect(suite.backend.ensureGolden(suite.name(2), source)).rejects.toMatchObject({
        code: 'storage.not_found',
      });
    }
    expect(await suite.names()).toEqual([suite.name(0), suite.name(1)]);
  });

  it('a full storage ends clean, and works again when there is space', async (context) => {
    const { fill } = suite.harness;
    if (typeof fill === 'string') return context.skip(fill);
    await fill.leave(4 * MiB);
    try {
      await expect(suite.backend.ensureGolden(suite.name(0), raw())).rejects.toMatchObject({ code: 'storage.full' });
      expect(await suite.mine()).toEqual([]);
    } finally {
      await fill.undo();
    }
    await made(0, raw());
    expect((await suite.content({ golden: suite.name(0) })).equals(suite.images.bytes)).toBe(true);
  });
}
