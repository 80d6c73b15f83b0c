import { expect, it } from 'vitest';
import { MiB } from './images.js';
import { until } from './suite.js';
import type { Suite } from './suite.js';

/** Attached disks: available, found again, protected from removal, and back after their daemon died. */
export function attachments(suite: Suite): void {
  it('refuses to remove what is in use, and to attach what is no disk', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    await expect(backend.ensureNoGolden(suite.name(0))).rejects.toMatchObject({ code: 'storage.in_use' });
    await suite.held(disk, () => expect(backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' }));
    for (const n of [0, 9]) {
      await expect(backend.ensureAttached(suite.disk(n))).rejects.toMatchObject({ code: 'storage.not_found' });
    }
    // The name belongs to the other kind, so there is nothing to remove.
    await backend.ensureNoDisk(suite.disk(0));
    await backend.ensureNoGolden(disk.name);
    expect(await suite.names()).toEqual([suite.name(0), disk.name]);
    await backend.ensureDetached(disk);
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(suite.name(0));
    expect(await suite.mine()).toEqual([]);
  });

  it('attaches and detaches again and again, at one place, and keeps the data', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const store = await backend.ensureAttached(disk);
    expect(await backend.ensureAttached(disk)).toEqual(store);
    await suite.write(disk, 8192, Buffer.alloc(512, 0xdd));
    await backend.ensureDetached(disk);
    await backend.ensureDetached(disk);
    await backend.ensureDetached(suite.disk(9));
    expect(await backend.ensureAttached(disk)).toEqual(store);
    expect(await suite.read(disk, 8192, 512)).toEqual(Buffer.alloc(512, 0xdd));
    await backend.ensureNoDisk(disk);
    await backend.ensureNoDisk(disk);
    await backend.ensureNoDisk(suite.disk(9));
    await backend.ensureNoGolden(suite.name(0));
    await backend.ensureNoGolden(suite.name(0));
  });

  it('a tag of a disk in use leaves it at its place, and whoever has it open goes on', async () => {
    const { backend } = suite;
    const disk = await suite.clone(1);
    const store = await backend.ensureAttached(disk);
    await suite.held(disk, async (io) => {
      for (let n = 1; n <= 3; n++) {
        await io.write(n * MiB, Buffer.alloc(4096, n));
        await backend.ensureTag(disk, `t${n}`);
      }
      expect(await backend.ensureAttached(disk)).toEqual(store);
      // Also when it is opened again: nothing comes from a cache.
      await suite.held(disk, async (other) => {
        for (let n = 1; n <= 3; n++) expect(await other.read(n * MiB, 4096)).toEqual(Buffer.alloc(4096, n));
      });
      await backend.ensureNoTag(disk, 't2');
      await io.write(0, Buffer.alloc(4096, 4));
    });
    await backend.ensureDetached(disk);
    expect(await suite.read(disk, 0, 4096)).toEqual(Buffer.alloc(4096, 4));
    expect((await suite.content({ disk, tag: 't3' })).subarray(MiB, MiB + 4096)).toEqual(Buffer.alloc(4096, 1));
    await backend.ensureNoDisk(disk);
    expect(await suite.names()).toEqual([suite.name(0)]);
  });

  it('a new backend object finds volumes, tags, attachments and data', async () => {
    const disk = await suite.clone(1);
    const store = await suite.backend.ensureAttached(disk);
    await suite.held(disk, async (io) => {
      await io.write(4096, Buffer.alloc(512, 0xee));
      await suite.backend.ensureTag(disk, 'kept');
      const before = await suite.mine();
      await suite.backend.close();
      // Through a file that stayed open while there was no backend object, as a target has it.
      await io.write(8192, Buffer.alloc(512, 0xef));
      suite.backend = await suite.harness.open();
      const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
      expect((await suite.mine()).sort(byName)).toEqual(before.sort(byName));
      await expect(suite.backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
      expect(await suite.backend.ensureAttached(disk)).toEqual(store);
      expect(await io.read(4096, 512)).toEqual(Buffer.alloc(512, 0xee));
      expect(await io.read(8192, 512)).toEqual(Buffer.alloc(512, 0xef));
      await suite.backend.ensureTag(disk, 'again');
      await io.write(8192, Buffer.alloc(512, 0xf0));
    });
    await suite.backend.ensureDetached(disk);
    expect((await suite.content({ disk, tag: 'kept' })).subarray(8192, 8704)).not.toEqual(Buffer.alloc(512, 0xef));
    expect((await suite.content({ disk, tag: 'again' })).subarray(8192, 8704)).toEqual(Buffer.alloc(512, 0xef));
    expect((await suite.content({ disk })).subarray(8192, 8704)).toEqual(Buffer.alloc(512, 0xf0));
  });

  it('after its daemon was killed, attached disks are back with what was flushed', async (context) => {
    if (!suite.harness.killDaemon) context.skip('no daemon stands behind attached volumes');
    const { backend } = suite;
    const disks = [await suite.clone(1), await suite.clone(2), await suite.clone(3)];
    const stores = await Promise.all(disks.map((disk) => backend.ensureAttached(disk)));
    for (const [n, disk] of disks.entries()) {
      await suite.held(disk, async (io) => {
        await io.write(MiB, Buffer.alloc(512, n + 1));
        if (n === 0) return;
        await backend.ensureTag(disk, 'live');
        await io.write(MiB, Buffer.alloc(512, n + 0x11));
      });
    }
    const lost = new Set<string>();
    backend.onAttachmentsLost((names) => names.forEach((name) => lost.add(name)));
    await suite.harness.killDaemon?.();
    await until(() => disks.every((disk) => lost.has(disk.name)));
    for (const [n, disk] of disks.entries()) {
      expect(await backend.ensureAttached(disk)).toEqual(stores[n]);
      const expected = Buffer.alloc(512, n === 0 ? 1 : n + 0x11);
      expect(await suite.held(disk, (io) => io.read(MiB, 512))).toEqual(expected);
      if (n === 0) continue;
      expect((await suite.content({ disk, tag: 'live' })).subarray(MiB, MiB + 512)).toEqual(Buffer.alloc(512, n + 1));
    }
    await backend.health();
  });

  it('a daemon killed while nobody watched is replaced by the next backend object', async (context) => {
    if (!suite.harness.killDaemon) context.skip('no daemon stands behind attached volumes');
    const disk = await suite.clone(1);
    await suite.held(disk, (io) => io.write(MiB, Buffer.alloc(512, 0x77)));
    await suite.backend.close();
    await suite.harness.killDaemon?.();
    suite.backend = await suite.harness.open();
    const lost: string[] = [];
    suite.backend.onAttachmentsLost((names) => lost.push(...names));
    expect(lost).toContain(disk.name);
    expect(await suite.held(disk, (io) => io.read(MiB, 512))).toEqual(Buffer.alloc(512, 0x77));
  });
}
