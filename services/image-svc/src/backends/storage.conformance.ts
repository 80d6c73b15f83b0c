import { randomBytes } from 'node:crypto';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  differs,
  imageBytes,
  makeImages,
  MiB,
  pathOf,
  pathStore,
  read,
  sizeOf,
  until,
  write,
} from './storage.conformance-io.js';
import type { TestImages } from './storage.conformance-io.js';
import type { StorageBackend } from './storage.port.js';

/** What the suite needs from a backend's own test file. Each `open` is on the same storage. */
export interface StorageHarness {
  open(): Promise<StorageBackend>;
  /** kill -9 to whatever stands behind attached volumes; absent when nothing does. */
  killDaemon?(): Promise<void>;
  /** Fills the storage up to `freeBytes`, and frees it again. A string is the reason why that cannot be done here. */
  fill: { leave(freeBytes: number): Promise<void>; undo(): Promise<void> } | string;
  /** Ends everything and leaves nothing, whatever state a failed test left. */
  teardown(): Promise<void>;
}

/** The behaviour that every storage backend has, real parts included. Call it from the backend's `*.it.ts`. */
export function describeStorageBackend(title: string, setUp: () => Promise<StorageHarness>): void {
  describe(`storage backend conformance: ${title}`, () => {
    let harness: StorageHarness;
    let backend: StorageBackend;
    let images: TestImages;
    let tests = 0;

    /** Names of its own for each test: `name(0)` is its golden volume by custom. */
    let name: (n: number) => string;
    const golden = async (): Promise<string> => {
      await backend.ensureGolden(name(0), { path: images.raw, format: 'raw' });
      return name(0);
    };
    const clone = async (n: number): Promise<string> => {
      await backend.ensureClone(await golden(), name(n));
      return name(n);
    };
    const mine = async () => {
      const prefix = name(0).slice(0, -1);
      return (await backend.list()).filter((info) => info.name.startsWith(prefix));
    };

    beforeAll(async () => {
      images = await makeImages();
      harness = await setUp();
      backend = await harness.open();
    });
    afterAll(async () => {
      await harness?.teardown();
      if (images) await rm(images.directory, { recursive: true });
    });
    beforeEach(() => {
      const prefix = `t${++tests}x`;
      name = (n) => `${prefix}img${n}`;
    });

    for (const format of ['raw', 'qcow2'] as const) {
      it(`imports a ${format} image that reads back identical`, async () => {
        const progress: number[] = [];
        const info = await backend.ensureGolden(
          name(0),
          { path: images[format], format },
          { onProgress: (done, total) => progress.push(done / total) },
        );
        expect(info).toMatchObject({ name: name(0), kind: 'golden', sizeBytes: imageBytes });
        expect(progress).toEqual(progress.toSorted((a, b) => a - b));
        expect(progress.at(-1)).toBe(1);
        await backend.ensureClone(name(0), name(1));
        expect(await differs(await backend.ensureAttached(name(1)), images.raw)).toBe(false);
      });
    }

    it('imports once, and refuses another image under the same name', async () => {
      const first = await backend.ensureGolden(name(0), { path: images.raw, format: 'raw' });
      expect(await backend.ensureGolden(name(0), { path: images.raw, format: 'raw' })).toEqual(first);
      const other = join(images.directory, 'other.raw');
      await writeFile(other, randomBytes(MiB));
      await expect(backend.ensureGolden(name(0), { path: other, format: 'raw' })).rejects.toMatchObject({
        code: 'storage.exists_differently',
      });
      await expect(backend.ensureClone(name(0), name(0))).rejects.toMatchObject({ code: 'storage.exists_differently' });
    });

    it('leaves nothing of an import that failed or was cancelled', async () => {
      await expect(backend.ensureGolden(name(0), { path: images.raw, format: 'qcow2' })).rejects.toMatchObject({
        code: 'storage.bad_source',
      });
      const cancel = new AbortController();
      cancel.abort();
      await expect(
        backend.ensureGolden(name(0), { path: images.raw, format: 'raw' }, { signal: cancel.signal }),
      ).rejects.toBe(cancel.signal.reason);
      expect(await mine()).toEqual([]);
    });

    it('clones are independent of each other and of their golden volume', async () => {
      const [one, two] = [await clone(1), await clone(2)];
      const [a, b] = [await backend.ensureAttached(one), await backend.ensureAttached(two)];
      await write(a, 5 * MiB + 512, Buffer.alloc(4096, 0xaa));
      await write(b, 0, Buffer.alloc(4096, 0xbb));
      expect(await read(a, 5 * MiB + 512, 4096)).toEqual(Buffer.alloc(4096, 0xaa));
      expect(await read(b, 0, 4096)).toEqual(Buffer.alloc(4096, 0xbb));
      expect((await read(b, 5 * MiB + 512, 4096)).equals(await read(pathStore(images.raw), 5 * MiB + 512, 4096))).toBe(
        true,
      );
      const fresh = await backend.ensureAttached(await clone(3));
      expect(await differs(fresh, images.raw)).toBe(false);
    });

    it('cloning again finds the clone, and refuses another origin or size', async () => {
      const first = await backend.ensureClone(await golden(), name(1));
      expect(await backend.ensureClone(name(0), name(1))).toEqual(first);
      await backend.ensureGolden(name(2), { path: images.raw, format: 'raw' });
      for (const again of [
        () => backend.ensureClone(name(2), name(1)),
        () => backend.ensureClone(name(0), name(1), { sizeBytes: imageBytes + MiB }),
        () => backend.ensureClone(name(0), name(2)),
      ]) {
        await expect(again()).rejects.toMatchObject({ code: 'storage.exists_differently' });
      }
      await expect(backend.ensureClone(name(9), name(3))).rejects.toMatchObject({ code: 'storage.not_found' });
      await expect(backend.ensureClone(name(1), name(3))).rejects.toMatchObject({ code: 'storage.not_found' });
    });

    it('a clone may be larger than its golden volume, and no smaller', async () => {
      const sizeBytes = 3 * 2 ** 30 + 512;
      expect(await backend.ensureClone(await golden(), name(1), { sizeBytes })).toMatchObject({ sizeBytes });
      const disk = await backend.ensureAttached(name(1));
      expect(await sizeOf(disk)).toBe(sizeBytes);
      expect(await read(disk, imageBytes, 4096)).toEqual(Buffer.alloc(4096));
      await write(disk, sizeBytes - 512, Buffer.alloc(512, 0xcc));
      expect(await read(disk, sizeBytes - 512, 512)).toEqual(Buffer.alloc(512, 0xcc));
      for (const wrong of [imageBytes - 512, imageBytes + 1, Number.NaN, 2 ** 60]) {
        await expect(backend.ensureClone(name(0), name(2), { sizeBytes: wrong })).rejects.toMatchObject({
          code: 'storage.bad_size',
        });
      }
    });

    it('refuses to remove what is in use, and to attach what is golden or absent', async () => {
      const disk = await clone(1);
      await expect(backend.ensureNoVolume(name(0))).rejects.toMatchObject({ code: 'storage.in_use' });
      await backend.ensureAttached(disk);
      await expect(backend.ensureNoVolume(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
      await expect(backend.ensureAttached(name(0))).rejects.toMatchObject({ code: 'storage.read_only' });
      await expect(backend.ensureAttached(name(9))).rejects.toMatchObject({ code: 'storage.not_found' });
      await backend.ensureDetached(disk);
      await backend.ensureNoVolume(disk);
      await backend.ensureNoVolume(name(0));
      expect(await mine()).toEqual([]);
    });

    it('attaches and detaches again and again, at one path, and keeps the data', async () => {
      const disk = await clone(1);
      const store = await backend.ensureAttached(disk);
      expect(await backend.ensureAttached(disk)).toEqual(store);
      await write(store, 8192, Buffer.alloc(512, 0xdd));
      await backend.ensureDetached(disk);
      await backend.ensureDetached(disk);
      await backend.ensureDetached(name(9));
      expect(await backend.ensureAttached(disk)).toEqual(store);
      expect(await read(store, 8192, 512)).toEqual(Buffer.alloc(512, 0xdd));
      await backend.ensureDetached(disk);
      await backend.ensureNoVolume(disk);
      await backend.ensureNoVolume(disk);
      await backend.ensureNoVolume(name(9));
    });

    it('one volume, many callers at once: one result', async () => {
      await golden();
      const calls = Array.from({ length: 16 }, () => backend.ensureClone(name(0), name(1)));
      expect(new Set((await Promise.all(calls)).map((info) => JSON.stringify(info))).size).toBe(1);
      const stores = await Promise.all(Array.from({ length: 16 }, () => backend.ensureAttached(name(1))));
      expect(new Set(stores.map((store) => JSON.stringify(store))).size).toBe(1);
      await Promise.all(Array.from({ length: 16 }, () => backend.ensureDetached(name(1))));
      await Promise.all(Array.from({ length: 16 }, () => backend.ensureNoVolume(name(1))));
      expect((await mine()).map((info) => info.name)).toEqual([name(0)]);
    });

    it('64 clones at once, each attached, marked, detached and half of them removed, end right', async () => {
      await golden();
      const numbers = Array.from({ length: 64 }, (_, n) => n + 1);
      await Promise.all(
        numbers.map(async (n) => {
          await backend.ensureClone(name(0), name(n));
          await write(await backend.ensureAttached(name(n)), MiB, Buffer.alloc(512, n));
          await backend.ensureDetached(name(n));
          if (n % 2 === 0) await backend.ensureNoVolume(name(n));
        }),
      );
      const left = numbers.filter((n) => n % 2 === 1);
      expect(new Set((await mine()).map((info) => info.name))).toEqual(new Set([name(0), ...left.map((n) => name(n))]));
      for (const n of left) {
        expect(await read(await backend.ensureAttached(name(n)), MiB, 512)).toEqual(Buffer.alloc(512, n));
        await backend.ensureDetached(name(n));
      }
    });

    it('a golden volume that is cloned and removed at once is either in use or gone', async () => {
      for (let n = 1; n <= 8; n++) {
        const parent = name(n * 10);
        await backend.ensureGolden(parent, { path: images.raw, format: 'raw' });
        const [cloned, removed] = await Promise.allSettled([
          backend.ensureClone(parent, name(n * 10 + 1)),
          backend.ensureNoVolume(parent),
        ]);
        const names = new Set((await mine()).map((info) => info.name));
        expect(names.has(parent)).toBe(removed.status === 'rejected');
        expect(names.has(name(n * 10 + 1))).toBe(cloned.status === 'fulfilled');
        expect(cloned.status).not.toBe(removed.status);
      }
    });

    it('a new backend object finds volumes, attachments and data', async () => {
      const disk = await clone(1);
      const store = await backend.ensureAttached(disk);
      const file = await open(pathOf(store), 'r+');
      try {
        await file.write(Buffer.alloc(512, 0xee), 0, 512, 4096);
        const before = await mine();
        await backend.close();
        // Written through a file that stayed open while nobody managed it, as a target's does.
        await file.write(Buffer.alloc(512, 0xef), 0, 512, 8192);
        await file.sync();
        backend = await harness.open();
        expect((await mine()).map((info) => info.name)).toEqual(before.map((info) => info.name));
        await expect(backend.ensureNoVolume(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
        expect(await backend.ensureAttached(disk)).toEqual(store);
        const { buffer } = await file.read(Buffer.alloc(512), 0, 512, 4096);
        expect(buffer).toEqual(Buffer.alloc(512, 0xee));
        expect(await read(store, 8192, 512)).toEqual(Buffer.alloc(512, 0xef));
      } finally {
        await file.close();
      }
    });

    it('after its daemon was killed, attached volumes are back with what was flushed', async (context) => {
      if (!harness.killDaemon) context.skip('no daemon stands behind attached volumes');
      const disks = [await clone(1), await clone(2)];
      const stores = await Promise.all(disks.map((disk) => backend.ensureAttached(disk)));
      await Promise.all(stores.map((store, n) => write(store, MiB, Buffer.alloc(512, n + 1))));
      const lost = new Set<string>();
      backend.onAttachmentsLost((volumes) => volumes.forEach((volume) => lost.add(volume)));
      await harness.killDaemon?.();
      await until(() => disks.every((disk) => lost.has(disk)));
      for (const [n, store] of stores.entries()) {
        expect(await read(store, MiB, 512)).toEqual(Buffer.alloc(512, n + 1));
        expect(await backend.ensureAttached(disks[n]!)).toEqual(store);
      }
      await backend.health();
    });

    it('a daemon killed while nobody watched is replaced by the next backend object', async (context) => {
      if (!harness.killDaemon) context.skip('no daemon stands behind attached volumes');
      const store = await backend.ensureAttached(await clone(1));
      await write(store, MiB, Buffer.alloc(512, 0x77));
      await backend.close();
      await harness.killDaemon?.();
      backend = await harness.open();
      const lost: string[] = [];
      backend.onAttachmentsLost((volumes) => lost.push(...volumes));
      expect(lost).toContain(name(1));
      expect(await read(store, MiB, 512)).toEqual(Buffer.alloc(512, 0x77));
    });

    it('lists every volume with its kind and sizes', async () => {
      await backend.ensureClone(await golden(), name(1), { sizeBytes: 2 * imageBytes });
      const infos = new Map((await mine()).map((info) => [info.name, info]));
      expect(infos.size).toBe(2);
      expect(infos.get(name(0))).toMatchObject({ kind: 'golden', sizeBytes: imageBytes });
      expect(infos.get(name(1))).toMatchObject({ kind: 'clone', sizeBytes: 2 * imageBytes });
      // Half of the image is a hole.
      expect(infos.get(name(0))?.allocatedBytes).toBeGreaterThanOrEqual(imageBytes / 2);
      expect(infos.get(name(0))?.allocatedBytes).toBeLessThan(imageBytes);
      expect(infos.get(name(1))?.allocatedBytes).toBeLessThan(imageBytes);
    });

    it('refuses names that are not volume names', async () => {
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
        for (const call of [
          () => backend.ensureGolden(bad, { path: images.raw, format: 'raw' }),
          () => backend.ensureClone(bad, name(1)),
          () => backend.ensureClone(name(0), bad),
          () => backend.ensureNoVolume(bad),
          () => backend.ensureAttached(bad),
          () => backend.ensureDetached(bad),
        ]) {
          await expect(call()).rejects.toMatchObject({ code: 'storage.bad_name' });
        }
      }
      const longest = `${'z'.repeat(32)}img999999999999`;
      await backend.ensureClone(await golden(), longest);
      await backend.ensureAttached(longest);
      await backend.ensureDetached(longest);
      await backend.ensureNoVolume(longest);
    });

    it('a full storage ends clean, and works again when there is space', async (context) => {
      const { fill } = harness;
      if (typeof fill === 'string') return context.skip(fill);
      await fill.leave(4 * MiB);
      try {
        await expect(backend.ensureGolden(name(0), { path: images.raw, format: 'raw' })).rejects.toMatchObject({
          code: 'storage.full',
        });
        expect(await mine()).toEqual([]);
      } finally {
        await fill.undo();
      }
      const disk = await clone(1);
      expect(await differs(await backend.ensureAttached(disk), images.raw)).toBe(false);
    });

    it('says that it is healthy', async () => {
      await expect(backend.health()).resolves.toBeUndefined();
    });
  });
}
