import {
  type Disk,
  diskAttach,
  diskCreate,
  diskDelete,
  diskFlatten,
  diskRestore,
  diskRollback,
  diskShow,
  diskTag,
  diskTags,
  diskUntag,
  diskUpdate,
  imageDelete,
  imageImport,
  quotaSet,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ofDisk, ofImage, openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.calls.length = 0;
  service.storage.failing = undefined;
});

const of = ({ id, project }: Disk) => ({ diskId: id, project });
const shown = ({ id, project }: Disk) => service.ask(diskShow, { disk: id, project });
const tagged = (disk: Disk, name: string) => service.tell(diskTag, { ...of(disk), tagId: randomUUID(), name });
const removed = (disk: Disk, purge: boolean) => service.tell(diskDelete, { ...of(disk), purge });
const resized = (disk: Disk, sizeBytes: number) => service.tell(diskUpdate, { ...of(disk), sizeBytes });
const fork = ({ id, project }: Disk, name: string, tag?: string) =>
  service.tell(diskCreate, { diskId: randomUUID(), project, name, from: ofDisk(id, tag) });
const tagsOf = async ({ id, project }: Disk) =>
  (await service.ask(diskTags, { disk: id, project })).items.map(({ name }) => name);
const tagStates = async ({ id }: Disk) => {
  const rows = await service.kit.database.query<{ state: string }>('SELECT state FROM tags WHERE disk = $1', [id]);
  return rows.map(({ state }) => state);
};
const called = (method: string, times = 1) =>
  until(`${times} of ${method} are under way`, () => {
    const calls = service.storage.calls.filter((call) => `${call} `.startsWith(`${method} `));
    return calls.length >= times;
  });
const limited = (project: string, bytes: number) =>
  service.tell(quotaSet, { project, limits: { bytes, disks: null, images: null } });

describe('a disk that is deleted', () => {
  it('and claimed or forked at the same moment is one or the other', async () => {
    for (let round = 0; round < 5; round += 1) {
      const disk = await service.disk();
      const tag = await tagged(disk, 'base');
      const [, claimed, forked] = await Promise.allSettled([
        removed(disk, false),
        service.tell(diskAttach, { ...of(disk), holder: randomUUID() }),
        fork(disk, `fork-${round}`, tag.id),
      ]);
      const inUse = claimed.status === 'fulfilled' || forked.status === 'fulfilled';
      expect((await shown(disk)).state).toBe(inUse ? 'ready' : 'trashed');
    }
  });

  it('can be removed for good when its name is that of another by now', async () => {
    const disk = await service.disk();
    await removed(disk, false);
    const { project, name } = disk;
    const another = { diskId: randomUUID(), project, name, from: ofImage(disk.image as string) };
    await service.tell(diskCreate, another);
    await removed(disk, true);
    await expect(shown(disk)).rejects.toMatchObject({ code: 'disk.not_found' });
    expect(await service.ask(diskShow, { project, disk: name })).toMatchObject({ id: another.diskId, state: 'ready' });
  });

  it('and is in the trash is not forked any more', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    await removed(disk, false);
    await expect(fork(disk, 'late', tag.id)).rejects.toMatchObject({ code: 'disk.not_ready' });
  });

  it('while it is being made leaves no volume', async () => {
    const image = await service.image();
    const request = { diskId: randomUUID(), project: image.project, name: 'short-lived', from: ofImage(image.id) };
    const release = service.storage.hold('clone');
    const making = service.tell(diskCreate, request);
    making.catch(() => {});
    await called('clone');
    await service.tell(diskDelete, { diskId: request.diskId, project: image.project, purge: true });
    release();
    await expect(making).rejects.toMatchObject({ code: 'disk.not_found' });
    expect([...service.storage.volumes.values()].filter(({ project }) => project === image.project)).toEqual([]);
  });

  it('as a fork that is just being made leaves no tag', async () => {
    const disk = await service.disk();
    const request = { diskId: randomUUID(), project: disk.project, name: 'short-lived', from: ofDisk(disk.id) };
    const release = service.storage.hold('tag');
    const forking = service.tell(diskCreate, request);
    forking.catch(() => {});
    await called('tag');
    service.storage.failing = { method: 'untag', code: 'storage.timeout' };
    await service.tell(diskDelete, { diskId: request.diskId, project: disk.project, purge: true });
    release();
    await expect(forking).rejects.toMatchObject({ code: 'disk.not_found' });
    expect(await tagStates(disk)).not.toContain('ready');
    expect(service.storage.volumes.get(disk.volume)!.tags).toEqual([]);
  });

  it('as an image that is being copied from a disk, leaves neither a tag nor one that says it is ready', async () => {
    for (const failing of [undefined, { method: 'untag', code: 'storage.timeout' } as const]) {
      const disk = await service.disk();
      const source = { kind: 'disk' as const, disk: disk.id };
      const request = { ...service.request(), project: disk.project, source };
      const release = service.storage.hold('tag');
      const importing = service.tell(imageImport, request);
      importing.catch(() => {});
      await called('tag');
      service.storage.failing = failing;
      await service.tell(imageDelete, { imageId: request.imageId, project: disk.project });
      release();
      await expect(importing).rejects.toMatchObject({ code: 'image.not_found' });
      expect(await tagStates(disk)).not.toContain('ready');
      expect(service.storage.volumes.get(disk.volume)!.tags).toEqual([]);
      service.storage.calls.length = 0;
    }
  });

  it('in the middle of a rollback goes with what that made', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    service.storage.failing = { method: 'clone', code: 'storage.timeout' };
    await expect(service.tell(diskRollback, { ...of(disk), tag: tag.id })).rejects.toMatchObject({
      code: 'storage.timeout',
    });
    const [pending] = await service.kit.database.query<{ volume: string }>(
      'SELECT volume FROM former_volumes WHERE disk = $1 AND pending',
      [disk.id],
    );
    const origin = { disk: { project: disk.project, name: disk.volume }, tag: `t${tag.id.replaceAll('-', '')}` };
    await service.storage.ensureClone(origin, { project: disk.project, name: pending!.volume });
    await removed(disk, true);
    expect([disk.volume, pending!.volume].filter((volume) => service.storage.volumes.has(volume))).toEqual([]);
  });

  it('and could not be removed is not restored, and goes in the end', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    await removed(disk, false);
    const { project } = disk;
    const origin = { disk: { project, name: disk.volume }, tag: `t${tag.id.replaceAll('-', '')}` };
    await service.storage.ensureClone(origin, { project, name: 'in-use' });
    await service.restart(undefined, { M2_TRASH_HOURS: '0' });
    await until('it is on its way out', async () => (await shown(disk)).state === 'deleting');
    await called(`remove ${disk.volume}`);
    await expect(service.tell(diskRestore, of(disk))).rejects.toMatchObject({ code: 'disk.not_ready' });
    expect(service.storage.volumes.has(disk.volume)).toBe(true);
    service.storage.volumes.delete('in-use');
    await service.kit.database.query(`UPDATE disks SET trashed_at = now() - interval '2 hours' WHERE id = $1`, [
      disk.id,
    ]);
    await service.restart();
    await until('it is gone', () => !service.storage.volumes.has(disk.volume));
  });
});

describe('a disk that becomes larger', () => {
  it('counts from that moment on, and not when it could not', async () => {
    const [one] = [await service.disk()];
    const { project } = one;
    const two = await service.tell(diskCreate, {
      diskId: randomUUID(),
      project,
      name: 'two',
      from: ofImage(one.image as string),
    });
    await limited(project, 16_384);
    const release = service.storage.hold('size');
    const growing = resized(one, 8_192);
    await called('size');
    await expect(resized(two, 8_192)).rejects.toMatchObject({ code: 'quota.exceeded' });
    await service.tell(diskUpdate, { ...of(one), name: 'renamed' });
    release();
    expect(await growing).toMatchObject({ name: 'renamed', sizeBytes: 8_192 });
    await limited(project, 20_480);
    service.storage.failing = { method: 'size', code: 'storage.full' };
    await expect(resized(two, 8_192)).rejects.toMatchObject({ code: 'storage.full' });
    expect(await shown(two)).toMatchObject({ sizeBytes: 4_096 });
  });

  it('and is made an image of at the same moment: neither waits for the other for ever', async () => {
    const disk = await service.disk();
    await limited(disk.project, 1_000_000);
    const source = { kind: 'disk', disk: disk.id };
    for (let round = 2; round < 6; round += 1) {
      const [larger] = await Promise.all([
        resized(disk, round * 4_096),
        service.tell(imageImport, service.request({ project: disk.project, source })),
      ]);
      expect(larger.sizeBytes).toBe(round * 4_096);
    }
  });
});

describe('a rollback', () => {
  it('and another to the same tag leave the disk the volume that it got', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    service.storage.calls.length = 0;
    const release = service.storage.hold('clone');
    const both = [1, 2].map(() => service.tell(diskRollback, { ...of(disk), tag: tag.id }));
    const outcomes = Promise.allSettled(both);
    await called('clone', 2);
    release();
    expect((await outcomes).map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(service.storage.volumes.has((await shown(disk)).volume)).toBe(true);
  });

  it('to when the disk was larger needs the room', async () => {
    const disk = await service.disk();
    const small = await tagged(disk, 'small');
    await resized(disk, 65_536);
    const large = await tagged(disk, 'large');
    await service.tell(diskRollback, { ...of(disk), tag: small.id });
    await limited(disk.project, 16_384);
    await expect(service.tell(diskRollback, { ...of(disk), tag: large.id })).rejects.toMatchObject({
      code: 'quota.exceeded',
    });
    // Its volume was removed: nothing keeps a node from the disk.
    await service.tell(diskAttach, { ...of(disk), holder: randomUUID() });
    expect(await shown(disk)).toMatchObject({ sizeBytes: 4_096 });
  });
});

describe('a tag', () => {
  it('stays as long as something depends on it, be it tags of a fork that was made flat since', async () => {
    const disk = await service.disk();
    const base = await tagged(disk, 'base');
    const child = await fork(disk, 'child', base.id);
    const early = await tagged(child, 'early');
    await service.tell(diskFlatten, of(child));
    await until('it is flat', async () => (await shown(child)).depth === 0);
    await expect(service.tell(diskUntag, { ...of(disk), tagId: base.id })).rejects.toMatchObject({
      code: 'tag.in_use',
    });
    await service.tell(diskUntag, { ...of(child), tagId: early.id });
    expect(await shown(child)).toMatchObject({ fork: null });
    await service.tell(diskUntag, { ...of(disk), tagId: base.id });
    expect(await tagsOf(disk)).toEqual([]);
  });

  it('that the storage does not let go of is there still', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'read');
    service.storage.failing = { method: 'untag', code: 'storage.in_use' };
    await expect(service.tell(diskUntag, { ...of(disk), tagId: tag.id })).rejects.toMatchObject({
      code: 'storage.in_use',
    });
    expect(await tagsOf(disk)).toEqual(['read']);
  });
});
