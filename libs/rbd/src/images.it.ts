import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { sharedCeph } from '@m2/lab/testing';
import { describe, expect, it } from 'vitest';
import { MiB, useCluster } from './cluster.fixture.ts';
import type { SourceRef } from './types.ts';

const cluster = useCluster(sharedCeph);
const run = promisify(execFile);

describe('images', () => {
  it('are made, listed, described, renamed, resized and removed', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: 64 * MiB });
    expect((await rbd.list(ref.pool)).map(({ name }) => name)).toContain(ref.image);
    const { id, ...described } = await rbd.info(ref);
    expect(id).toMatch(/^[0-9a-z]{8,}$/);
    expect(described).toEqual({
      sizeBytes: 64 * MiB,
      objectBytes: MiB,
      features: ['layering', 'exclusive-lock', 'object-map', 'fast-diff'],
      snaps: [],
      watchers: [],
      lockOwners: [],
    });
    const renamed = cluster.image();
    await rbd.rename(ref, renamed.image);
    await rbd.resize(renamed, 96 * MiB);
    expect(await rbd.info(renamed)).toMatchObject({ id, sizeBytes: 96 * MiB });
    await expect(rbd.resize(renamed, MiB)).rejects.toMatchObject({ code: 'invalid', call: 'rbd_resize2' });
    await rbd.resize(renamed, MiB, { allowShrink: true });
    expect(await rbd.info(renamed)).toMatchObject({ sizeBytes: MiB });
    await rbd.remove(renamed);
    await expect(rbd.info(renamed)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('are found by the beginning of their names, however many there are', async () => {
    const rbd = cluster.client();
    const { pool, image } = cluster.image();
    expect(await rbd.namesLike(pool, undefined, image)).toEqual([]);
    const others = Array.from({ length: 40 }, (_, n) => `${image}.${n}.partial`);
    for (const name of [image, `${image}1`, `${image}-2`, ...others]) {
      await rbd.create({ pool, image: name }, { sizeBytes: MiB });
    }
    expect(await rbd.namesLike(pool, undefined, image)).toEqual([image, ...others.toSorted()]);
    expect(await rbd.namesLike(pool, undefined, `${image}-`)).toEqual([]);
    await expect(rbd.namesLike('nowhere', undefined, image)).rejects.toMatchObject({ code: 'not_found' });
    for (const name of [image, `${image}1`, `${image}-2`, ...others]) await rbd.remove({ pool, image: name });
    expect(await rbd.namesLike(pool, undefined, image)).toEqual([]);
  });

  it('go to the trash at once, and from there for good: with progress, in parts, or as a whole', async () => {
    const rbd = cluster.client();
    const ref = await cluster.filledImage(rbd, 64);
    const { pool, image } = ref;
    const { id } = await rbd.info(ref);
    await rbd.trashMove(ref);
    await expect(rbd.trashMove(ref)).rejects.toMatchObject({ code: 'not_found' });
    expect(await rbd.namesLike(pool, undefined, image)).toEqual([]);
    expect(await rbd.trashList(pool)).toContainEqual({ id, name: image });
    const stop = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number, total: number) => {
      seen.push(done / total);
      stop.abort(new Error('enough'));
    };
    await expect(
      rbd.trashRemove({ pool, id }, { signal: stop.signal, onProgress, progressFromBytes: 0 }),
    ).rejects.toThrow('enough');
    expect(seen.length).toBeGreaterThan(0);
    expect(await rbd.trashList(pool)).toContainEqual({ id, name: image });
    await rbd.trashRemove({ pool, id });
    await expect(rbd.trashRemove({ pool, id })).rejects.toMatchObject({ code: 'not_found' });
    expect(await rbd.trashList(pool)).not.toContainEqual({ id, name: image });
  });

  it('have the objects and features that were asked for', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: 64 * MiB, objectBytes: 4 * MiB, features: ['layering', 'deep-flatten'] });
    expect(await rbd.info(ref)).toMatchObject({ objectBytes: 4 * MiB, features: ['layering', 'deep-flatten'] });
    const odd = { sizeBytes: MiB, objectBytes: 3 * MiB };
    await expect(rbd.create(cluster.image(), odd)).rejects.toMatchObject({ code: 'invalid' });
  });

  it('are renamed also when an earlier try was interrupted', async () => {
    const rbd = cluster.client();
    const [one, other, old] = [cluster.image(), cluster.image(), cluster.image()];
    for (const ref of [one, other, old]) await rbd.create(ref, { sizeBytes: MiB });
    await expect(rbd.rename(one, other.image)).rejects.toMatchObject({ code: 'exists' });
    // What librbd leaves when it is killed half-way; the image of one of the names was removed since.
    const rados = (...args: string[]) => run('rados', ['--conf', cluster.ceph.adminConf, '--pool', one.pool, ...args]);
    const header = cluster.path('header');
    for (const [from, name] of [
      [one, 'half'],
      [old, 'gone'],
    ] as const) {
      await rados('get', `rbd_id.${from.image}`, header);
      await rados('put', `rbd_id.${name}`, header);
    }
    await rbd.remove(old);
    await rbd.rename(one, 'half');
    await rbd.rename(other, 'gone');
    for (const image of ['half', 'gone']) expect(await rbd.info({ ...one, image })).toMatchObject({ sizeBytes: MiB });
    const names = (await rbd.list(one.pool)).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['half', 'gone']));
    expect(names).not.toContain(one.image);
  });

  it('are listed all, however many there are', async () => {
    const rbd = cluster.client();
    const { diskPool } = cluster.ceph;
    await rbd.namespaceCreate(diskPool, 'many');
    const names = Array.from({ length: 150 }, (_, i) => `many${i}`);
    await Promise.all(names.map((image) => rbd.create({ pool: diskPool, namespace: 'many', image }, { sizeBytes: 0 })));
    expect((await rbd.list(diskPool, 'many')).map(({ name }) => name).sort()).toEqual(names.sort());
    await expect(rbd.namespaceRemove(diskPool, 'many')).rejects.toMatchObject({ code: 'busy' });
  });

  it('say what is wrong with a request', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    await expect(rbd.create(ref, { sizeBytes: MiB })).rejects.toMatchObject({ code: 'exists', call: 'rbd_create4' });
    const nowhere = { pool: 'nowhere', image: 'x' };
    await expect(rbd.info(nowhere)).rejects.toMatchObject({ code: 'not_found', call: 'rados_ioctx_create' });
    await expect(rbd.info({ ...ref, snap: 'none' })).rejects.toMatchObject({ code: 'not_found' });
    await expect(rbd.remove(cluster.image())).rejects.toMatchObject({ code: 'not_found', errno: 2 });
    const handle = await rbd.openImage(ref);
    await handle.write(0, Buffer.from('x'));
    await expect(cluster.client().remove(ref)).rejects.toMatchObject({ code: 'busy' });
    await handle.close();
  });
});

describe('clones', () => {
  it('are made of any snapshot, into another pool and namespace', async () => {
    const rbd = cluster.client();
    const golden = await cluster.filledImage(rbd, 4, 64);
    const snap = { ...golden, snap: 'm2' };
    await rbd.snapCreate(snap);
    await rbd.namespaceCreate(cluster.ceph.diskPool, 'cloned');
    const disk = cluster.disk('cloned');
    await rbd.clone(snap, disk, { objectBytes: 2 * MiB });
    const described = await rbd.info(disk);
    expect(described).toMatchObject({
      sizeBytes: 64 * MiB,
      objectBytes: 2 * MiB,
      parent: { ...snap, namespace: '', trashed: false },
    });
    for (const ref of [snap, golden]) {
      expect(await rbd.children(ref)).toEqual([{ ...disk, id: described.id, trashed: false }]);
    }
    expect([await rbd.usedBytes(disk), await rbd.usedBytes(golden)]).toEqual([0, 4 * MiB]);
    await expect(rbd.clone(snap, disk)).rejects.toMatchObject({ code: 'exists' });
    await expect(rbd.clone({ ...golden, snap: 'none' }, cluster.disk())).rejects.toMatchObject({ code: 'not_found' });
  });

  it('end right when 64 are made at once, and removed at once', async () => {
    const rbd = cluster.client();
    const golden = cluster.image();
    const snap = { ...golden, snap: 'm2' };
    await rbd.create(golden, { sizeBytes: 64 * MiB });
    await rbd.snapCreate(snap);
    const disks = Array.from({ length: 64 }, () => cluster.disk());
    await Promise.all(disks.map((disk) => rbd.clone(snap, disk)));
    const images = (await rbd.children(snap)).map(({ image }) => image);
    expect(images.sort()).toEqual(disks.map(({ image }) => image).sort());
    await Promise.all(disks.map((disk) => rbd.remove(disk)));
    expect(await rbd.children(snap)).toEqual([]);
  });

  it('are independent of their parent after they were flattened, and say how far that is', async () => {
    const rbd = cluster.client();
    const golden = await cluster.filledImage(rbd, 8);
    const snap = { ...golden, snap: 'm2' };
    await rbd.snapCreate(snap);
    const disk = cluster.disk();
    await rbd.clone(snap, disk);
    const seen: [number, number][] = [];
    await rbd.flatten(disk, { onProgress: (done, total) => seen.push([done, total]) });
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.every(([done, total]) => done <= total && total === 8)).toBe(true);
    expect(await rbd.info(disk)).not.toHaveProperty('parent');
    expect(await rbd.usedBytes(disk)).toBe(8 * MiB);
    await rbd.snapRemove(snap);
    await rbd.remove(golden);
  });

  it('lose nothing when they are flattened after a writer was killed', async () => {
    const rbd = cluster.client();
    const golden = await cluster.filledImage(rbd, 4);
    const snap = { ...golden, snap: 'm2' };
    await rbd.snapCreate(snap);
    const disk = cluster.disk();
    await rbd.clone(snap, disk);
    const content = async (ref: SourceRef) => {
      const handle = await rbd.openImage(ref, { readOnly: true });
      return handle.read(0, 4 * MiB).finally(() => handle.close());
    };
    // The writer marked an object in the object map, and did not write it.
    const writer = await rbd.openImage(disk);
    await writer.write(MiB, Buffer.alloc(512));
    await writer.close();
    const rados = (...args: string[]) => run('rados', ['--conf', cluster.ceph.adminConf, '--pool', disk.pool, ...args]);
    const { stdout } = await rados('ls');
    const written = stdout.split('\n').filter((name) => name.startsWith('rbd_data.') && name.endsWith('0001'));
    await Promise.all(written.map((name) => rados('rm', name)));
    await rbd.flatten(disk);
    expect((await content(disk)).equals(await content(snap))).toBe(true);
  });
});

describe('snapshots', () => {
  it('are made, protected, unprotected and removed', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    const snap = { ...ref, snap: 'first' };
    await rbd.snapCreate(snap);
    await expect(rbd.snapCreate(snap)).rejects.toMatchObject({ code: 'exists' });
    await rbd.snapProtect(snap);
    await expect(rbd.snapProtect(snap)).rejects.toMatchObject({ code: 'busy' });
    const { snaps } = await rbd.info(ref);
    expect(snaps).toEqual([{ id: expect.any(Number), name: 'first', sizeBytes: MiB, protected: true, kind: 'user' }]);
    await expect(rbd.snapRemove(snap)).rejects.toMatchObject({ code: 'busy' });
    await expect(rbd.remove(ref)).rejects.toMatchObject({ code: 'busy' });
    await rbd.snapUnprotect(snap);
    await expect(rbd.snapUnprotect(snap)).rejects.toMatchObject({ code: 'invalid' });
    await rbd.snapRemove(snap);
    expect(await rbd.info(ref)).toMatchObject({ snaps: [] });
  });

  it('stay in the trash until their last clone is gone', async () => {
    const rbd = cluster.client();
    const ref = cluster.image();
    await rbd.create(ref, { sizeBytes: MiB });
    await rbd.snapCreate({ ...ref, snap: 's' });
    const disk = cluster.disk();
    await rbd.clone({ ...ref, snap: 's' }, disk);
    await rbd.snapRemove({ ...ref, snap: 's' });
    expect((await rbd.info(ref)).snaps).toMatchObject([{ kind: 'trash', protected: false }]);
    await expect(rbd.remove(ref)).rejects.toMatchObject({ code: 'busy' });
    await rbd.remove(disk);
    await rbd.remove(ref);
  });
});

describe('pools and namespaces', () => {
  it('are known by name, with what they hold', async () => {
    const rbd = cluster.client();
    const { imagePool } = cluster.ceph;
    const { pools } = JSON.parse(await cluster.ceph.ceph('osd', 'dump', '--format', 'json')) as {
      pools: { pool: number; pool_name: string }[];
    };
    expect(await rbd.poolId(imagePool)).toBe(pools.find(({ pool_name }) => pool_name === imagePool)?.pool);
    await expect(rbd.poolId('nowhere')).rejects.toMatchObject({ code: 'not_found' });
    await cluster.filledImage(rbd, 4);
    await expect
      .poll(() => rbd.poolStats(imagePool), { timeout: 60_000 })
      .toSatisfy(({ usedBytes, availableBytes }) => usedBytes >= 4 * MiB && availableBytes > 2 ** 30);
    await expect(rbd.poolStats('nowhere')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('namespaces come and go', async () => {
    const rbd = cluster.client();
    const { diskPool } = cluster.ceph;
    await rbd.namespaceCreate(diskPool, 'one');
    await rbd.namespaceCreate(diskPool, 'two');
    await expect(rbd.namespaceCreate(diskPool, 'two')).rejects.toMatchObject({ code: 'exists' });
    expect(await rbd.namespaceList(diskPool)).toEqual(expect.arrayContaining(['one', 'two']));
    expect(await rbd.namespaceExists(diskPool, 'one')).toBe(true);
    await rbd.namespaceRemove(diskPool, 'one');
    expect(await rbd.namespaceExists(diskPool, 'one')).toBe(false);
    await expect(rbd.namespaceRemove(diskPool, 'one')).rejects.toMatchObject({ code: 'not_found' });
  });
});
