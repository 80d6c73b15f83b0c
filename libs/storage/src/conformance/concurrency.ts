import { expect, it } from 'vitest';
import { MiB } from './images.js';
import type { Suite } from './suite.js';

/** Many callers at once. */
export function concurrency(suite: Suite): void {
  const together = <T>(count: number, work: (n: number) => Promise<T>) =>
    Promise.all(Array.from({ length: count }, (_, n) => work(n)));
  const different = (values: unknown[]) => new Set(values.map((value) => JSON.stringify(value))).size;

  it('one disk, many callers at once: one result', async () => {
    const { backend } = suite;
    const origin = { golden: await suite.golden() };
    const disk = suite.disk(1);
    expect(different(await together(16, () => backend.ensureClone(origin, disk)))).toBe(1);
    expect(different(await together(16, () => backend.ensureAttached(disk)))).toBe(1);
    await together(16, () => backend.ensureTag(disk, 'same'));
    await together(16, () => backend.ensureDetached(disk));
    await together(16, () => backend.ensureFlat(disk));
    await together(16, () => backend.ensureNoTag(disk, 'same'));
    await together(16, () => backend.ensureNoDisk(disk));
    expect(await suite.names()).toEqual([suite.name(0)]);
  });

  it('64 clones at once, each attached, marked, detached and half of them removed, end right', async () => {
    const { backend } = suite;
    const origin = { golden: await suite.golden() };
    await together(64, async (n) => {
      const disk = suite.disk(n + 1);
      await backend.ensureClone(origin, disk);
      await suite.write(disk, MiB, Buffer.alloc(512, n));
      if (n % 2 === 0) await backend.ensureNoDisk(disk);
    });
    const left = Array.from({ length: 32 }, (_, n) => 2 * n + 1);
    expect(await suite.names()).toEqual([suite.name(0), ...left.map((n) => suite.name(n + 1))].sort());
    for (const n of left) expect(await suite.read(suite.disk(n + 1), MiB, 512)).toEqual(Buffer.alloc(512, n));
    await together(32, (n) => backend.ensureNoDisk(suite.disk(2 * n + 2)));
    await backend.ensureNoGolden(suite.name(0));
    expect(await suite.mine()).toEqual([]);
  });

  it('a golden volume that is cloned and removed at once is either in use or gone', async () => {
    const { backend } = suite;
    for (let n = 1; n <= 8; n++) {
      const golden = await suite.golden(n * 10);
      const disk = suite.disk(n * 10 + 1);
      const [cloned, removed] = await Promise.allSettled([
        backend.ensureClone({ golden }, disk),
        backend.ensureNoGolden(golden),
      ]);
      const names = await suite.names();
      expect(names.includes(golden)).toBe(removed.status === 'rejected');
      expect(names.includes(disk.name)).toBe(cloned.status === 'fulfilled');
      expect(cloned.status).not.toBe(removed.status);
    }
  });

  it('a tag that is cloned and removed at once is either in use or gone', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    for (let n = 2; n <= 9; n++) {
      await backend.ensureTag(disk, `t${n}`);
      const [cloned, removed] = await Promise.allSettled([
        backend.ensureClone({ disk, tag: `t${n}` }, suite.disk(n)),
        backend.ensureNoTag(disk, `t${n}`),
      ]);
      const infos = await suite.mine();
      const tags = infos.find(({ name }) => name === disk.name)?.tags;
      expect(tags?.includes(`t${n}`)).toBe(removed.status === 'rejected');
      expect(infos.some(({ name }) => name === suite.name(n))).toBe(cloned.status === 'fulfilled');
      expect(cloned.status).not.toBe(removed.status);
    }
  });
}
