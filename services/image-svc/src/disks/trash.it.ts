import {
  type Disk,
  diskCreate,
  diskDelete,
  diskList,
  diskRestore,
  diskShow,
  diskUpdate,
  imageDelete,
  quotaSet,
  quotaShow,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ofImage, openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.failing = undefined;
});

const of = ({ id, project }: Disk) => ({ diskId: id, project });
const trash = (disk: Disk) => service.tell(diskDelete, { ...of(disk), purge: false });
const names = async (project: string, trashed = false) =>
  (await service.ask(diskList, { project, trashed })).items.map(({ name }) => name);

describe('the trash', () => {
  it('keeps a deleted disk, frees its name, and gives it back', async () => {
    const disk = await service.disk();
    const { project, name } = disk;
    await trash(disk);
    expect([await names(project), await names(project, true)]).toEqual([[], [name]]);
    expect(service.storage.volumes.has(disk.volume)).toBe(true);
    await expect(service.ask(diskShow, { disk: name, project })).rejects.toMatchObject({ code: 'disk.not_found' });
    expect(await service.ask(diskShow, { disk: disk.id, project })).toMatchObject({ state: 'trashed' });
    const next = { diskId: randomUUID(), project, name, from: ofImage(disk.image as string) };
    await service.tell(diskCreate, next);
    await expect(service.tell(diskRestore, of(disk))).rejects.toMatchObject({ code: 'disk.exists' });
    expect(await service.tell(diskRestore, { ...of(disk), name: 'back' })).toMatchObject({
      state: 'ready',
      name: 'back',
    });
    await expect(service.tell(diskRestore, of(disk))).rejects.toMatchObject({ code: 'disk.not_ready' });
    expect((await names(project)).toSorted()).toEqual(['back', name].toSorted());
    expect(await service.events(disk.id)).toEqual(['image.disk.created', 'image.disk.trashed', 'image.disk.restored']);
  });

  it('is emptied when its time has come, and the image is free then', async () => {
    const disk = await service.disk();
    await trash(disk);
    const image = { imageId: disk.image as string, project: disk.project };
    await expect(service.tell(imageDelete, image)).rejects.toMatchObject({
      code: 'image.in_use',
      refused: true,
      detail: expect.stringContaining('in the trash') as string,
    });
    await service.restart(undefined, { M2_TRASH_HOURS: '0' });
    await until('it is gone', () => !service.storage.volumes.has(disk.volume));
    await until('it is told of', async () => (await service.events(disk.id)).includes('image.disk.deleted'));
    await service.tell(imageDelete, image);
    await service.restart();
  });

  it('can be emptied by hand', async () => {
    const disk = await service.disk();
    await trash(disk);
    await service.tell(diskDelete, { ...of(disk), purge: true });
    expect(service.storage.volumes.has(disk.volume)).toBe(false);
    expect(await names(disk.project, true)).toEqual([]);
  });
});

describe('a disk', () => {
  it('gets another name and becomes larger, never smaller', async () => {
    const disk = await service.disk();
    expect(await service.tell(diskUpdate, { ...of(disk), name: 'renamed', sizeBytes: 9_000 })).toMatchObject({
      name: 'renamed',
      sizeBytes: 9_216,
    });
    expect(service.storage.volumes.get(disk.volume)?.sizeBytes).toBe(9_216);
    await expect(service.tell(diskUpdate, { ...of(disk), sizeBytes: 512 })).rejects.toMatchObject({
      code: 'disk.too_small',
    });
    await expect(
      service.tell(diskUpdate, { ...of(disk), project: randomUUID(), name: 'stolen' }),
    ).rejects.toMatchObject({ code: 'disk.not_found' });
  });
});

describe('a quota', () => {
  it('limits disks, images and bytes, and counts what is in the trash', async () => {
    const disk = await service.disk();
    const { project } = disk;
    const image = disk.image as string;
    const create = (name: string, sizeBytes?: number) =>
      service.tell(diskCreate, { diskId: randomUUID(), project, name, from: ofImage(image), sizeBytes });
    expect(await service.ask(quotaShow, { project })).toEqual({
      limits: { bytes: null, disks: null, images: null },
      used: { bytes: 8192, disks: 1, images: 1 },
    });
    await service.tell(quotaSet, { project, limits: { bytes: null, disks: 2, images: 1 } });
    await create('two');
    await expect(create('three')).rejects.toMatchObject({ code: 'quota.exceeded' });
    await trash(disk);
    await expect(create('three')).rejects.toMatchObject({ code: 'quota.exceeded' });
    await service.tell(diskDelete, { ...of(disk), purge: true });
    const three = await create('three');
    await expect(service.image({ project })).rejects.toMatchObject({ code: 'quota.exceeded' });
    await service.tell(quotaSet, { project, limits: { bytes: 20_000, disks: null, images: null } });
    await expect(create('large', 8_192)).rejects.toMatchObject({ code: 'quota.exceeded' });
    await expect(service.tell(diskUpdate, { ...of(three), sizeBytes: 16_384 })).rejects.toMatchObject({
      code: 'quota.exceeded',
    });
    await create('small', 4_096);
    expect(await service.image({ project })).toMatchObject({ state: 'failed', error: { code: 'quota.exceeded' } });
    expect((await service.ask(quotaShow, { project })).used.bytes).toBe(16_384);
  });

  it('of one more is given to one of those who want it at the same moment', async () => {
    const disk = await service.disk();
    const { project } = disk;
    await service.tell(quotaSet, { project, limits: { bytes: null, disks: 2, images: null } });
    const wanting = ['a', 'b', 'c', 'd'].map((name) =>
      service.tell(diskCreate, { diskId: randomUUID(), project, name, from: ofImage(disk.image as string) }),
    );
    const outcomes = await Promise.allSettled(wanting);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await names(project)).toHaveLength(2);
  });
});
