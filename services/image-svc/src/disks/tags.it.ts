import {
  type Disk,
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  diskFlatten,
  diskFlattenCancel,
  diskRollback,
  diskShow,
  diskTag,
  diskTags,
  diskUntag,
  imageDelete,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ofDisk, openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.calls.length = 0;
  service.storage.failing = undefined;
});

const shown = ({ id, project }: Disk) => service.ask(diskShow, { disk: id, project });
const of = ({ id, project }: Disk) => ({ diskId: id, project });
const tagged = (disk: Disk, name: string) => service.tell(diskTag, { ...of(disk), tagId: randomUUID(), name });
const fork = ({ id, project }: Disk, name: string, tag?: string) =>
  service.tell(diskCreate, { diskId: randomUUID(), project, name, from: ofDisk(id, tag) });
const tagsOf = async ({ id, project }: Disk) =>
  (await service.ask(diskTags, { disk: id, project })).items.map(({ name }) => name);
const purge = (disk: Disk) => service.tell(diskDelete, { ...of(disk), purge: true });
const flat = async (disk: Disk) => {
  await service.tell(diskFlatten, of(disk));
  return until('it is flat', async () => {
    const now = await shown(disk);
    return now.flattening === null ? now : undefined;
  });
};
const volumes = (...disks: Disk[]) => disks.map(({ volume }) => service.storage.volumes.get(volume));

describe('a tag', () => {
  it('keeps a disk that a node uses, is listed, and is gone when it is deleted', async () => {
    const disk = await service.disk();
    await service.tell(diskAttach, { ...of(disk), holder: randomUUID() });
    const tag = await tagged(disk, 'before-update');
    expect(tag).toMatchObject({ disk: disk.id, name: 'before-update', sizeBytes: disk.sizeBytes, automatic: false });
    expect(await tagsOf(disk)).toEqual(['before-update']);
    expect(volumes(disk)[0]?.tags).toHaveLength(1);
    await service.tell(diskUntag, { ...of(disk), tagId: tag.id });
    await service.tell(diskUntag, { ...of(disk), tagId: tag.id });
    expect([await tagsOf(disk), volumes(disk)[0]?.tags]).toEqual([[], []]);
    expect(await service.events(disk.id)).toEqual([
      'image.disk.created',
      'image.disk.attached',
      'image.disk.tagged',
      'image.disk.untagged',
    ]);
  });

  it('has a name of its own on its disk, and there are only so many', async () => {
    await service.restart(undefined, { M2_MAX_TAGS: '2' });
    const disk = await service.disk();
    await tagged(disk, 'one');
    await expect(tagged(disk, 'one')).rejects.toMatchObject({ code: 'tag.exists' });
    await tagged(disk, 'two');
    await expect(tagged(disk, 'three')).rejects.toMatchObject({ code: 'disk.too_many_tags' });
    expect(volumes(disk)[0]?.tags).toHaveLength(2);
    await service.restart();
  });

  it('of a disk of another project is not there to be seen, made, used or deleted', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'mine');
    const stranger = randomUUID();
    const theirs = { diskId: disk.id, project: stranger };
    await expect(service.tell(diskTag, { ...theirs, tagId: randomUUID(), name: 'x' })).rejects.toMatchObject({
      code: 'disk.not_found',
    });
    await expect(service.tell(diskRollback, { ...theirs, tag: tag.id })).rejects.toMatchObject({
      code: 'disk.not_found',
    });
    const stolen = { diskId: randomUUID(), project: stranger, name: 'stolen', from: ofDisk(disk.id, tag.id) };
    await expect(service.tell(diskCreate, stolen)).rejects.toMatchObject({ code: 'tag.not_found' });
    expect((await service.ask(diskTags, { disk: disk.id, project: stranger })).items).toEqual([]);
    await service.tell(diskUntag, { ...theirs, tagId: tag.id });
    expect(await tagsOf(disk)).toEqual(['mine']);
  });
});

describe('a fork', () => {
  it('of a tag depends on it, and keeps it and its disk from being deleted', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    const child = await fork(disk, 'child', tag.id);
    expect(child).toMatchObject({ image: null, fork: { disk: disk.id, tag: tag.id }, depth: 2 });
    await expect(service.tell(diskUntag, { ...of(disk), tagId: tag.id })).rejects.toMatchObject({
      code: 'tag.in_use',
      detail: expect.stringContaining('disk child') as string,
    });
    for (const way of [true, false])
      await expect(service.tell(diskDelete, { ...of(disk), purge: way })).rejects.toMatchObject({
        code: 'tag.in_use',
        refused: true,
      });
    expect(await shown(disk)).toMatchObject({ state: 'ready' });
    await purge(child);
    await purge(disk);
    expect(volumes(disk, child)).toEqual([undefined, undefined]);
  });

  it('of a running disk is made of a tag that goes with it', async () => {
    const disk = await service.disk();
    await service.tell(diskAttach, { ...of(disk), holder: randomUUID() });
    const child = await fork(disk, 'child');
    expect((await service.ask(diskTags, { disk: disk.id, project: disk.project })).items).toMatchObject([
      { automatic: true },
    ]);
    await purge(child);
    expect([await tagsOf(disk), volumes(disk)[0]?.tags]).toEqual([[], []]);
  });

  it('that was made flat depends on nothing, and its tag goes', async () => {
    const disk = await service.disk();
    const child = await fork(disk, 'child');
    expect(await flat(child)).toMatchObject({ depth: 0 });
    // The tag that held it goes right after.
    await until('the tag is gone', async () => (await tagsOf(disk)).length === 0);
    expect(await shown(child)).toMatchObject({ depth: 0, fork: null });
    await purge(disk);
    expect(volumes(disk, child)).toMatchObject([undefined, { origin: null }]);
    expect(await service.events(child.id)).toEqual(['image.disk.created', 'image.disk.flattened']);
  });

  it('whose cloning died is ended by the same message, with one tag', async () => {
    const disk = await service.disk();
    const request = { diskId: randomUUID(), project: disk.project, name: 'child', from: ofDisk(disk.id) };
    const effect = `${randomUUID()}/clone-disk/do`;
    for (const method of ['tag', 'clone'] as const) {
      service.storage.failing = { method, code: 'storage.timeout' };
      await expect(service.tell(diskCreate, request, effect)).rejects.toMatchObject({ code: 'storage.timeout' });
    }
    expect(await service.tell(diskCreate, request, effect)).toMatchObject({ state: 'ready' });
    expect(await tagsOf(disk)).toHaveLength(1);
    expect(volumes(disk)[0]?.tags).toHaveLength(1);
  });

  it('of a fork is made flat in the background when it lies too deep, and refused when that does not come to its end', async () => {
    await service.restart(undefined, { M2_MAX_CLONE_DEPTH: '2' });
    const release = service.storage.hold('flat');
    let disk = await service.disk();
    const chain = [disk];
    for (const name of ['two', 'three', 'four']) chain.push((disk = await fork(disk, name)));
    expect(chain.map(({ depth }) => depth)).toEqual([1, 2, 3, 4]);
    await expect(fork(disk, 'five')).rejects.toMatchObject({ code: 'disk.too_deep' });
    release();
    await until('they are flat', async () => (await shown(disk)).depth === 0);
    expect((await fork(disk, 'five')).depth).toBe(1);
    await service.restart();
  });
});

describe('a flattening that is cancelled', () => {
  const begun = (disk: Disk) =>
    until('its progress is seen', async () => ((await shown(disk)).flattening?.progress ? true : undefined));
  const cancel = (disk: Disk) => service.tell(diskFlattenCancel, of(disk));

  it('stops, also when others wait behind it; the disk is a clone, and may be made flat later', async () => {
    const [disk, waiting] = [await service.disk(), await service.disk()];
    const release = service.storage.hold('flat');
    await service.tell(diskFlatten, of(disk));
    await begun(disk);
    await service.tell(diskFlatten, of(waiting));
    for (const one of [waiting, disk]) await cancel(one);
    release();
    for (const one of [disk, waiting]) expect(await shown(one)).toMatchObject({ flattening: null, depth: 1 });
    expect(volumes(disk, waiting)).not.toContainEqual(expect.objectContaining({ origin: null }));
    expect(service.storage.calls).not.toContain(`flat ${waiting.volume}`);
    expect(await service.events(disk.id)).toEqual(['image.disk.created']);
    expect(await flat(disk)).toMatchObject({ depth: 0 });
  });

  it('in another replica is stopped by the one that works on it', async () => {
    const disk = await service.disk();
    const release = service.storage.hold('flat');
    await service.tell(diskFlatten, of(disk));
    await begun(disk);
    // As the other replica leaves it.
    await service.kit.database.query('UPDATE disks SET flattening = NULL WHERE id = $1', [disk.id]);
    await until('it is stopped', async () => {
      service.storage.tellOfLongWork();
      const held = await service.kit.database.query('SELECT FROM m2_leases WHERE name = $1', [`flatten ${disk.id}`]);
      return held.length === 0;
    });
    release();
    expect(volumes(disk)[0]!.origin).not.toBeNull();
  });

  it('and had failed still says why; one that has ended, or whose disk is gone, is fine', async () => {
    const disk = await service.disk();
    service.storage.failing = { method: 'flat', code: 'storage.full' };
    await service.tell(diskFlatten, of(disk));
    const failed = await until('it has failed', async () => {
      const { flattening } = await shown(disk);
      return flattening?.error && flattening;
    });
    await cancel(disk);
    expect((await shown(disk)).flattening).toEqual(failed);
    service.storage.failing = undefined;
    await flat(disk);
    await cancel(disk);
    expect(await shown(disk)).toMatchObject({ depth: 0 });
    await purge(disk);
    await cancel(disk);
  });
});

describe('a rollback', () => {
  it('gives the disk a new volume, and keeps the old one for its tags', async () => {
    const disk = await service.disk();
    const [first, second] = [await tagged(disk, 'first'), await tagged(disk, 'second')];
    const back = await service.tell(diskRollback, { ...of(disk), tag: first.id });
    expect(back.volume).not.toBe(disk.volume);
    expect(back).toMatchObject({ id: disk.id, state: 'ready', depth: 2, image: disk.image, fork: null });
    expect(service.storage.volumes.get(back.volume)?.origin).toBe(`${disk.volume}@t${first.id.replaceAll('-', '')}`);
    expect(await tagsOf(disk)).toEqual(['first', 'second']);
    await expect(service.tell(diskUntag, { ...of(disk), tagId: first.id })).rejects.toMatchObject({
      code: 'tag.in_use',
    });
    await service.tell(diskUntag, { ...of(disk), tagId: second.id });
    expect(service.storage.volumes.has(disk.volume)).toBe(true);
    // A flat disk needs neither the tag nor its former volume.
    await flat(disk);
    await service.tell(diskUntag, { ...of(disk), tagId: first.id });
    expect(service.storage.volumes.has(disk.volume)).toBe(false);
    expect(await shown(disk)).toMatchObject({ image: null, depth: 0 });
    await service.tell(imageDelete, { imageId: disk.image as string, project: disk.project });
    expect([...service.storage.volumes.values()].filter(({ name }) => name === back.volume)).toHaveLength(1);
  });

  it('may be done again and again, forth and back, and all goes with the disk', async () => {
    const disk = await service.disk();
    const first = await tagged(disk, 'first');
    const second = await service
      .tell(diskRollback, { ...of(disk), tag: first.id })
      .then((now) => tagged(now, 'second'));
    const third = await service.tell(diskRollback, { ...of(disk), tag: first.id });
    const fourth = await service.tell(diskRollback, { ...of(disk), tag: second.id });
    // A former volume without tags is of no use.
    expect(service.storage.volumes.has(third.volume)).toBe(false);
    const mine = () => [...service.storage.volumes.values()].filter(({ project }) => project === disk.project);
    expect(mine()).toHaveLength(3);
    expect(fourth.depth).toBe(3);
    await purge(fourth);
    expect(mine()).toEqual([]);
  });

  it('of a disk that a node uses, or to a tag that is not its own, is refused', async () => {
    const disk = await service.disk();
    const other = await service.disk({});
    const tag = await tagged(disk, 'mine');
    const foreign = await tagged(other, 'foreign');
    await expect(service.tell(diskRollback, { ...of(disk), tag: foreign.id })).rejects.toMatchObject({
      code: 'tag.not_found',
    });
    const holder = randomUUID();
    await service.tell(diskAttach, { ...of(disk), holder });
    await expect(service.tell(diskRollback, { ...of(disk), tag: tag.id })).rejects.toMatchObject({
      code: 'disk.in_use',
    });
    await service.tell(diskDetach, { ...of(disk), holder });
    expect((await shown(disk)).volume).toBe(disk.volume);
  });

  it('that died is gone on with; nobody boots the disk meanwhile; one that cannot be done leaves nothing', async () => {
    const disk = await service.disk();
    const tag = await tagged(disk, 'base');
    const effect = `${randomUUID()}/rollback/do`;
    service.storage.failing = { method: 'clone', code: 'storage.timeout' };
    const request = { ...of(disk), tag: tag.id };
    await expect(service.tell(diskRollback, request, effect)).rejects.toMatchObject({ code: 'storage.timeout' });
    await expect(service.tell(diskAttach, { ...of(disk), holder: randomUUID() })).rejects.toMatchObject({
      code: 'disk.in_use',
    });
    const back = await service.tell(diskRollback, request, effect);
    expect(service.storage.calls.filter((call) => call === `clone ${back.volume}`)).toHaveLength(2);
    service.storage.failing = { method: 'clone', code: 'storage.full' };
    await expect(service.tell(diskRollback, request)).rejects.toMatchObject({ code: 'storage.full' });
    await service.tell(diskAttach, { ...of(disk), holder: randomUUID() });
    expect(await shown(disk)).toMatchObject({ volume: back.volume });
  });
});
