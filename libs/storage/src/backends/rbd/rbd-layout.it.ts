import { sharedCeph } from '@m2/lab/testing';
import { randomUUID } from 'node:crypto';
import { truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StorageBackend } from '../../storage.port.js';
import { TestCluster } from './rbd-backend.fixture.js';

const MiB = 2 ** 20;
const features = ['layering', 'exclusive-lock', 'object-map', 'fast-diff'];

let cluster: TestCluster;
let backend: StorageBackend;
let source: { path: string; format: 'raw' };
let count = 0;
const golden = async () => {
  const name = `g1img${(count += 1)}`;
  await backend.ensureGolden(name, source);
  return name;
};
const diskOf = (project: string) => ({ project, name: `d1img${(count += 1)}` });

beforeAll(async () => {
  cluster = await TestCluster.open(sharedCeph);
  backend = await cluster.backend();
  source = { path: cluster.path('image.raw'), format: 'raw' };
  await writeFile(source.path, Buffer.alloc(MiB, 1));
  await truncate(source.path, 8 * MiB);
});
afterAll(() => cluster?.close());

describe('volumes', () => {
  it('are images as other tools expect them: a golden one has its one snapshot, protected', async () => {
    const name = await golden();
    const { imagePool, diskPool, user } = cluster.ceph;
    const image = await cluster.rbd.info({ pool: imagePool, image: name });
    expect(image).toMatchObject({ sizeBytes: 8 * MiB, objectBytes: MiB, watchers: [], lockOwners: [] });
    expect(image.features).toEqual(features);
    expect(image.snaps).toMatchObject([{ name: 'golden', protected: true, kind: 'user' }]);
    expect(image.parent).toBeUndefined();

    const disk = diskOf(randomUUID());
    await backend.ensureClone({ golden: name }, disk);
    const clone = await cluster.rbd.info({ pool: diskPool, namespace: disk.project, image: disk.name });
    expect(clone.features).toEqual([...features, 'deep-flatten', 'operations']);
    expect(clone).toMatchObject({ objectBytes: MiB, parent: { image: name, snap: 'golden' }, snaps: [] });
    expect(await backend.ensureAttached(disk)).toEqual({
      type: 'rbd',
      pool: diskPool,
      namespace: disk.project,
      image: disk.name,
      user: `${user}.${disk.project}`,
    });
  });

  it('of others cannot be named where M2 keeps its own, and nothing else than a volume can', async () => {
    const { imagePool, diskPool } = cluster.ceph;
    const name = await golden();
    const disk = diskOf(randomUUID());
    await backend.ensureClone({ golden: name }, disk);
    for (const foreign of [
      `${imagePool}/${name}`,
      `${imagePool}/${name}@golden`,
      `${imagePool}/${name}.0123abcd.partial`,
      `${diskPool}/${disk.project}/${disk.name}`,
      '',
      'pool',
      'pool/',
      '/image',
      'pool//image',
      'pool/a/b/c',
      'pool/image@',
      'pool/image@a@b',
      'pool/image:conf=other',
      'pool/-image',
      'pool/image\n',
    ]) {
      const refused = { code: 'storage.bad_name' };
      await expect(backend.ensureGolden('f1img1', { foreign })).rejects.toMatchObject(refused);
      await expect(backend.copyToForeign({ golden: name }, foreign, { key: randomUUID() })).rejects.toMatchObject(
        refused,
      );
    }
    await expect(
      backend.copyToForeign({ golden: name }, `${imagePool}/theirs@snap`, { key: randomUUID() }),
    ).rejects.toMatchObject({
      code: 'storage.bad_name',
    });
  });

  it('of others may be snapshots', async () => {
    const theirs = await cluster.foreign.make(source.path);
    await cluster.tool('snap', 'create', '--no-progress', `${theirs}@before`);
    await cluster.tool('resize', '--no-progress', '--size', '16M', theirs);
    expect(await backend.ensureGolden('f1img2', { foreign: `${theirs}@before` })).toMatchObject({ sizeBytes: 8 * MiB });
    expect(await backend.ensureGolden('f1img3', { foreign: theirs })).toMatchObject({ sizeBytes: 16 * MiB });
    await expect(backend.ensureGolden('f1img4', { foreign: `${theirs}@none` })).rejects.toMatchObject({
      code: 'storage.not_found',
    });
  });

  it('are read as they were, or not at all, when their tag is removed meanwhile', async () => {
    const disk = diskOf(randomUUID());
    await backend.ensureClone({ golden: await golden() }, disk);
    await backend.ensureTag(disk, 'gone');
    const reader = await backend.openReader({ disk, tag: 'gone' });
    expect(await reader.read(0, 512)).toEqual(Buffer.alloc(512, 1));
    await backend.ensureNoTag(disk, 'gone');
    await expect(reader.read(0, 512)).rejects.toMatchObject({ code: 'storage.not_found' });
    await expect(backend.ensureNoDisk(disk)).rejects.toMatchObject({ code: 'storage.in_use' });
    await reader.close();
    await backend.ensureNoDisk(disk);
  });

  it('tell the bytes that differ, and not whole objects', async () => {
    const disk = diskOf(randomUUID());
    await backend.ensureClone({ golden: await golden() }, disk);
    await backend.ensureTag(disk, 'before');
    const io = await cluster.open(await backend.ensureAttached(disk));
    await io.write(3 * MiB + 8192, Buffer.alloc(4096, 5));
    await io.close();
    const reader = await backend.openReader({ disk });
    const extents = [];
    for await (const extent of reader.extents('before')) extents.push(extent);
    await reader.close();
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(12_288);
  });
});

describe('projects', () => {
  it('cannot open, or change, what belongs to another or to all', async () => {
    const [ours, theirs] = [diskOf(randomUUID()), diskOf(randomUUID())];
    const name = await golden();
    for (const disk of [ours, theirs]) await backend.ensureClone({ golden: name }, disk);
    const store = await backend.ensureAttached(ours);
    const io = await cluster.open(store);
    // It reads there what it has from its golden image.
    expect(await io.read(0, 512)).toEqual(Buffer.alloc(512, 1));
    await io.close();
    const { diskPool, imagePool, user } = cluster.ceph;
    const tenant = await cluster.tenant(`${user}.${ours.project}`);
    const denied = { code: 'denied' };
    const foreign = { pool: diskPool, namespace: theirs.project, image: theirs.name };
    await expect(tenant.openImage(foreign)).rejects.toMatchObject(denied);
    await expect(tenant.list(diskPool, theirs.project)).rejects.toMatchObject(denied);
    await expect(tenant.create({ pool: imagePool, image: 'x' }, { sizeBytes: MiB })).rejects.toMatchObject(denied);
    await expect(tenant.snapUnprotect({ pool: imagePool, image: name, snap: 'golden' })).rejects.toMatchObject(denied);
    await expect(tenant.monCommand({ prefix: 'auth get', entity: `client.${user}` })).rejects.toMatchObject(denied);
  });

  it('leave nothing when they are forgotten, and are not while they have disks', async () => {
    const disk = diskOf(randomUUID());
    const { diskPool, user } = cluster.ceph;
    await backend.ensureNoProject(disk.project);
    await backend.ensureClone({ golden: await golden() }, disk);
    await expect(backend.ensureNoProject(disk.project)).rejects.toMatchObject({ code: 'storage.in_use' });
    expect(await backend.ensureAttached(disk)).toMatchObject({ image: disk.name });
    await cluster.ceph.ceph('auth', 'get', `client.${user}.${disk.project}`);
    await backend.ensureNoDisk(disk);
    await expect(backend.ensureNoProject(disk.project)).rejects.toMatchObject({ code: 'storage.in_use' });
    for (const volume of await backend.removed())
      if (volume.project === disk.project) await backend.ensureFreed(volume);
    await backend.ensureNoProject(disk.project);
    await backend.ensureNoProject(disk.project);
    expect(await cluster.rbd.namespaceList(diskPool)).not.toContain(disk.project);
    await expect(cluster.ceph.ceph('auth', 'get', `client.${user}.${disk.project}`)).rejects.toThrow('ENOENT');
  });

  it('have users who may do what they must, whatever they might before', async () => {
    const disk = diskOf(randomUUID());
    const entity = `client.${cluster.ceph.user}.${disk.project}`;
    await cluster.ceph.ceph('auth', 'get-or-create', entity, 'mon', 'profile rbd', 'osd', 'profile rbd pool=other');
    await backend.ensureClone({ golden: await golden() }, disk);
    const io = await cluster.open(await backend.ensureAttached(disk));
    await io.write(0, Buffer.alloc(512, 2));
    expect(await io.read(0, 512)).toEqual(Buffer.alloc(512, 2));
    await io.close();
  });

  it('are named by ids that cannot grant anything', async () => {
    const name = await golden();
    for (const project of ['', 'a b', 'a, allow *', 'a/b', 'A', '-a', 'a'.repeat(64), 'a\n']) {
      const refused = { code: 'storage.bad_name' };
      await expect(backend.ensureClone({ golden: name }, { project, name: 'd1img1' })).rejects.toMatchObject(refused);
      await expect(backend.ensureNoProject(project)).rejects.toMatchObject(refused);
    }
  });
});
