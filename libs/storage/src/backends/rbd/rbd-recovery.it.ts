import type { LabCeph } from '@m2/lab';
import { ownCeph } from '@m2/lab/testing';
import type { ImageRef } from '@m2/rbd';
import { randomBytes, randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DiskVolume, Readable, StorageBackend } from '../../storage.port.js';
import { TestCluster } from './rbd-backend.fixture.js';

const MiB = 2 ** 20;
const bytes = randomBytes(8 * MiB);
const project = randomUUID();

let cluster: TestCluster<LabCeph>;
let backend: StorageBackend;
let source: { path: string; format: 'raw' };
let count = 0;
const name = () => `r1img${(count += 1)}`;
const newDisk = (): DiskVolume => ({ project, name: name() });
const golden = async () => {
  const made = name();
  await backend.ensureGolden(made, source);
  return made;
};
const imageOf = (image: string): ImageRef => ({ pool: cluster.ceph.imagePool, image });
const diskImage = ({ name: image }: DiskVolume) => ({ pool: cluster.ceph.diskPool, namespace: project, image });
const imageOf0 = ({ name: image }: DiskVolume) => imageOf(`${image}0`);
const listed = async (volume: string) => (await backend.list()).filter((info) => info.name === volume);

async function expectContent(readable: Readable, expected = bytes): Promise<void> {
  const reader = await backend.openReader(readable);
  try {
    expect((await reader.read(0, expected.length)).equals(expected)).toBe(true);
  } finally {
    await reader.close();
  }
}

/**
 * Calls again and again, and each time kills the process behind the backend a little later, until a call is done before the kill. Returns
 * the number of kills.
 */
async function doneDespiteKills(call: () => Promise<unknown>): Promise<number> {
  for (let kills = 0; ; kills++) {
    const outcome = call().then(
      () => 'done',
      ({ code, message }: { code: string; message: string }) => code ?? message,
    );
    const first = await Promise.race([outcome, pause(kills * 18, 'late')]);
    if (first === 'late') await cluster.killChildren();
    const answer = await outcome;
    expect(answer).toMatch(/^(done|storage\.unavailable|storage\.in_use)$/);
    if (answer === 'storage.in_use') await forgetWatches();
    if (answer !== 'done') continue;
    // If it was killed right after that, the next call would get the error.
    await expect.poll(() => backend.health().then(() => 'works', String)).toBe('works');
    return kills;
  }
}

/**
 * An OSD may keep the watch of a client that died just when it registered the watch, until the OSD does not need the object any more
 * (osd/PrimaryLogPG.cc, do_osd_op_effects: the session is gone). A cluster in use gets there by itself.
 */
async function forgetWatches(): Promise<void> {
  await cluster.ceph.killOsd();
  await cluster.ceph.startOsd();
}

beforeAll(async () => {
  cluster = await TestCluster.open(ownCeph);
  backend = await cluster.backend();
  source = { path: cluster.path('image.raw'), format: 'raw' };
  await writeFile(source.path, bytes);
});
afterAll(() => cluster?.close());

describe('a golden image', () => {
  it('is whole in the end, whenever those who make it and remove it are killed', async () => {
    const volume = name();
    expect(await doneDespiteKills(() => backend.ensureGolden(volume, source))).toBeGreaterThan(3);
    expect(await listed(volume)).toMatchObject([{ kind: 'golden', sizeBytes: 8 * MiB }]);
    await expectContent({ golden: volume });
    await doneDespiteKills(() => backend.ensureNoGolden(volume));
    expect(await listed(volume)).toEqual([]);
    expect((await cluster.rbd.list(cluster.ceph.imagePool)).filter((it) => it.name.startsWith(volume))).toEqual([]);
  });

  it('that was begun and not finished is seen, made anew, and its rest removed', async () => {
    const volume = name();
    const partial = imageOf(`${volume}.0123abcd.partial`);
    const snap = { ...partial, snap: 'golden' };
    for (const leave of [
      () => cluster.rbd.create(partial, { sizeBytes: MiB }),
      () => cluster.rbd.create(partial, { sizeBytes: MiB }).then(() => cluster.rbd.snapCreate(snap)),
    ]) {
      await leave();
      expect(await listed(volume)).toMatchObject([{ kind: 'partial', sizeBytes: MiB }]);
      await backend.ensureGolden(volume, source);
      expect(await listed(volume)).toMatchObject([{ kind: 'golden', sizeBytes: 8 * MiB }]);
      expect((await cluster.rbd.list(partial.pool)).map((it) => it.name)).not.toContain(partial.image);
      await backend.ensureNoGolden(volume);
    }
    await cluster.rbd.create(partial, { sizeBytes: MiB });
    await cluster.rbd.snapCreate(snap);
    await cluster.rbd.snapProtect(snap);
    await backend.ensureNoGolden(volume);
    expect(await listed(volume)).toEqual([]);
  });

  it('that lacked only its name is given it, and one that lost its snapshot is given another', async () => {
    const volume = await golden();
    await cluster.rbd.rename(imageOf(volume), `${volume}.0123abcd.partial`);
    expect(await listed(volume)).toMatchObject([{ kind: 'partial' }]);
    await backend.ensureGolden(volume, source);
    expect(await listed(volume)).toMatchObject([{ kind: 'golden' }]);
    const snap = { ...imageOf(volume), snap: 'golden' };
    await cluster.rbd.snapUnprotect(snap);
    await cluster.rbd.snapRemove(snap);
    expect(await listed(volume)).toMatchObject([{ kind: 'partial' }]);
    await backend.ensureGolden(volume, source);
    expect((await cluster.rbd.info(imageOf(volume))).snaps).toMatchObject([{ name: 'golden', protected: true }]);
    await expectContent({ golden: volume });
  });

  it('is left to whoever is at work on it', async () => {
    const volume = name();
    const partial = imageOf(`${volume}.0123abcd.partial`);
    await cluster.rbd.create(partial, { sizeBytes: MiB });
    const handle = await cluster.rbd.openImage(partial);
    await backend.ensureGolden(volume, source);
    await handle.write(0, Buffer.alloc(512));
    const removed = backend.ensureNoGolden(volume);
    await handle.close();
    await removed;
    expect((await cluster.rbd.list(partial.pool)).filter((it) => it.name.startsWith(volume))).toEqual([]);
  });
});

describe('a disk', () => {
  it('is whole in the end, whenever those who make it and remove it are killed', async () => {
    const origin = { golden: await golden() };
    for (const options of [{}, { sizeBytes: 32 * MiB }]) {
      const disk = newDisk();
      expect(await doneDespiteKills(() => backend.ensureClone(origin, disk, options))).toBeGreaterThan(0);
      expect(await listed(disk.name)).toMatchObject([{ kind: 'disk', sizeBytes: options.sizeBytes ?? 8 * MiB }]);
      await expectContent({ disk });
      await expect(backend.ensureNoGolden(origin.golden)).rejects.toMatchObject({ code: 'storage.in_use' });
      await backend.ensureTag(disk, 'a');
      await doneDespiteKills(() => backend.ensureFlat(disk));
      await expectContent({ disk });
      await expectContent({ disk, tag: 'a' });
      await doneDespiteKills(() => backend.ensureNoDisk(disk));
      expect(await listed(disk.name)).toEqual([]);
    }
    await backend.ensureNoGolden(origin.golden);
  }, 300_000);

  it('that librbd was making when it was killed is made anew', async () => {
    const origin = { golden: await golden() };
    const sound = newDisk();
    await backend.ensureClone(origin, sound);
    const soundId = (await cluster.rbd.info(diskImage(sound))).id;
    const create = async (disk: DiskVolume) => {
      await cluster.rbd.create(diskImage(disk), { sizeBytes: 8 * MiB });
      return (await cluster.rbd.info(diskImage(disk))).id;
    };
    const lacks = async (disk: DiskVolume, ...objects: ((id: string) => string)[]) => {
      const id = await create(disk);
      for (const object of objects) await cluster.rados(project, 'rm', object(id));
    };
    const header = (id: string) => `rbd_header.${id}`;
    for (const interrupt of [
      (disk: DiskVolume) => lacks(disk, header, () => `rbd_id.${disk.name}`),
      (disk: DiskVolume) => lacks(disk, header),
      (disk: DiskVolume) => lacks(disk),
      async (disk: DiskVolume) => {
        // It has its parent, and the parent does not know it.
        const id = await create(disk);
        const value = cluster.path(`parent-${disk.name}`);
        await cluster.rados(project, 'getomapval', header(soundId), 'parent', value);
        await cluster.rados(project, 'setomapval', header(id), 'parent', '--input-file', value);
        expect(await cluster.rbd.info(diskImage(disk))).toMatchObject({ parent: { image: origin.golden } });
      },
    ]) {
      const [disk, unwanted] = [newDisk(), newDisk()];
      await interrupt(disk);
      await interrupt(unwanted);
      expect(await listed(disk.name)).toHaveLength(1);
      await backend.ensureClone(origin, disk);
      await expectContent({ disk });
      const { id } = await cluster.rbd.info(diskImage(disk));
      expect((await cluster.rbd.children(imageOf(origin.golden))).map((child) => child.id)).toContain(id);
      await backend.ensureNoDisk(unwanted);
      expect(await listed(unwanted.name)).toEqual([]);
      await backend.ensureNoDisk(disk);
    }
    await backend.ensureNoDisk(sound);
    await backend.ensureNoGolden(origin.golden);
  });

  it('is made also where its namespace was half made, and where it was taken away', async () => {
    const origin = { golden: await golden() };
    const { diskPool } = cluster.ceph;
    const disk = { project: randomUUID(), name: name() };
    await cluster.rbd.namespaceCreate(diskPool, disk.project);
    await cluster.rados(disk.project, 'rm', 'rbd_directory');
    await backend.ensureClone(origin, disk);
    await expectContent({ disk });
    await backend.ensureNoDisk(disk);
    for (const volume of await backend.removed())
      if (volume.project === disk.project) await backend.ensureFreed(volume);
    await cluster.rbd.namespaceRemove(diskPool, disk.project);
    await backend.ensureClone(origin, disk);
    await expectContent({ disk });
    await expect(backend.ensureClone({ golden: 'none1img1' }, newDisk())).rejects.toMatchObject({
      code: 'storage.not_found',
    });
  });

  it('that somebody made flat is not taken for an unfinished one', async () => {
    const origin = { golden: await golden() };
    const disk = newDisk();
    await backend.ensureClone(origin, disk);
    const { id } = await cluster.rbd.info(diskImage(disk));
    await cluster.tool('flatten', '--no-progress', `${cluster.ceph.diskPool}/${project}/${disk.name}`);
    await backend.ensureNoGolden(origin.golden);
    expect(await backend.ensureClone(origin, disk)).toMatchObject({ sizeBytes: 8 * MiB });
    expect(await cluster.rbd.info(diskImage(disk))).toMatchObject({ id });
  });
});

describe('what somebody has open for a moment, as librbd does when the last clone of a removed tag goes,', () => {
  it.each([
    ['a disk with a tag is removed', (disk: DiskVolume) => backend.ensureNoDisk(disk), diskImage],
    ['a disk is resized', (disk: DiskVolume) => backend.ensureSize(disk, 16 * MiB), diskImage],
    ['a golden image is removed', ({ name: made }: DiskVolume) => backend.ensureNoGolden(`${made}0`), imageOf0],
  ])('%s', async (_, change, imageOf) => {
    const disk = newDisk();
    await backend.ensureGolden(`${disk.name}0`, source);
    await backend.ensureClone({ golden: `${disk.name}0` }, disk);
    await backend.ensureFlat(disk);
    await backend.ensureTag(disk, 'a');
    const handle = await cluster.rbd.openImage(imageOf(disk));
    const changed = change(disk);
    await handle.close();
    await expect(changed).resolves.toBeUndefined();
    await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(`${disk.name}0`);
  });
});

describe('several services', () => {
  it('make the same volumes at once, and all find them', async () => {
    const others = [backend, await cluster.backend(), await cluster.backend()];
    const [volume, disks] = [name(), [newDisk(), newDisk()] as const];
    const made = await Promise.all(others.map((other) => other.ensureGolden(volume, source)));
    expect(new Set(made.map((info) => JSON.stringify(info))).size).toBe(1);
    const origin = { golden: volume };
    const clones = await Promise.all(
      others.flatMap((other) => [
        other.ensureClone(origin, disks[0]),
        other.ensureClone(origin, disks[1], { sizeBytes: 16 * MiB }),
      ]),
    );
    expect(new Set(clones.map((info) => JSON.stringify(info))).size).toBe(2);
    for (const disk of disks) await expectContent({ disk });
    // A client that removes an image has it open, and of two that detach a clone from its parent one finds nothing.
    const inTheWay = expect.stringMatching(/in_use|unavailable/) as string;
    const removed = await Promise.allSettled(others.flatMap((other) => disks.map((disk) => other.ensureNoDisk(disk))));
    const refused = removed.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
    for (const reason of refused) expect(reason).toMatchObject({ code: inTheWay });
    for (const disk of disks) await backend.ensureNoDisk(disk);
    await backend.ensureNoGolden(volume);
    expect(await backend.list()).not.toContainEqual(expect.objectContaining({ name: volume }));
  });

  it('clone and remove a golden image at once: either it is in use, or there is no clone', async () => {
    const other = await cluster.backend();
    const outcomes = new Set<string>();
    for (let n = 0; n < 12; n++) {
      const [volume, disk] = [await golden(), newDisk()];
      // The removal takes several steps: the clone meets another step each time.
      const [cloned, removed] = await Promise.allSettled([
        pause(n * 8).then(() => backend.ensureClone({ golden: volume }, disk)),
        other.ensureNoGolden(volume),
      ]);
      outcomes.add(cloned.status);
      // Both outcomes with their reasons, so that a failure says why.
      expect([cloned, removed].filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      const isThere = removed.status === 'rejected';
      expect(await listed(volume)).toMatchObject(isThere ? [{ kind: 'golden' }] : []);
      const another = { ...disk, name: `${disk.name}0` };
      for (const origin of isThere ? [{ golden: volume }] : []) {
        // The clone is complete, and its golden image is as before.
        await expectContent({ disk });
        await backend.ensureClone(origin, disk);
        await backend.ensureClone(origin, another);
      }
      await backend.ensureNoDisk(another);
      await backend.ensureNoDisk(disk);
      await backend.ensureNoGolden(volume);
    }
    expect(outcomes).toEqual(new Set(['fulfilled', 'rejected']));
  });
});
