import {
  diskCreate,
  type Image,
  imageDelete,
  imageImport,
  imageList,
  imageShow,
  imageTree,
  imageUpdate,
  diskTag,
  diskTags,
  quotaSet,
} from '@m2/contracts';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ofDisk, ofImage, openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());

const of = ({ id: imageId, project }: Image) => ({ imageId, project });
const see = (project: string, { id: image }: Image) => service.ask(imageShow, { project, image });
const seen = async (project: string) => (await service.ask(imageList, { project })).items.map(({ id }) => id);
const clone = (project: string, { id: image }: Image) =>
  service.tell(diskCreate, { diskId: randomUUID(), project, name: `d-${image.slice(-8)}`, from: ofImage(image) });
const notThere = { code: 'image.not_found' };

describe('an image', () => {
  it('is private, until its project shares it with others: these see it, by name too, and clone it', async () => {
    const image = await service.image({ name: 'golden' });
    const [friend, stranger] = [randomUUID(), randomUUID()];
    for (const project of [friend, stranger]) {
      await expect(see(project, image)).rejects.toMatchObject(notThere);
      await expect(clone(project, image)).rejects.toMatchObject(notThere);
    }
    const shared = await service.tell(imageUpdate, { ...of(image), sharedWith: [friend] });
    expect(shared).toMatchObject({ visibility: 'shared', sharedWith: [friend] });
    expect(await see(friend, image)).toMatchObject({ id: image.id, sharedWith: [], parent: null });
    expect(await service.ask(imageShow, { project: friend, image: 'golden' })).toMatchObject({ id: image.id });
    expect([await seen(friend), await seen(stranger)]).toEqual([[image.id], []]);
    expect((await service.ask(imageList, { project: friend, own: true })).items).toEqual([]);
    expect(await clone(friend, image)).toMatchObject({ project: friend, image: image.id });
    await expect(clone(stranger, image)).rejects.toMatchObject(notThere);
  });

  it('that is shared is nobody’s to change or delete but its owner’s, who hears how many use it and not who', async () => {
    const image = await service.image();
    const friend = randomUUID();
    await service.tell(imageUpdate, { ...of(image), sharedWith: [friend] });
    await clone(friend, image);
    await expect(service.tell(imageUpdate, { ...of(image), project: friend, name: 'mine' })).rejects.toMatchObject(
      notThere,
    );
    await service.tell(imageDelete, { ...of(image), project: friend });
    await expect(service.tell(imageDelete, of(image))).rejects.toMatchObject({
      code: 'image.in_use',
      detail: expect.stringMatching(/1 of other projects$/) as string,
    });
    await service.tell(imageUpdate, { ...of(image), visibility: 'private' });
    await expect(see(friend, image)).rejects.toMatchObject(notThere);
  });

  it('that is public is everybody’s to use; a name that several share needs an identifier', async () => {
    const name = `public-${randomUUID().slice(-12)}`;
    const [one, two] = [await service.image({ name }), await service.image({ name })];
    const project = randomUUID();
    await service.tell(imageUpdate, { ...of(one), visibility: 'public' });
    expect(await service.ask(imageShow, { project, image: name })).toMatchObject({ id: one.id });
    await service.tell(imageUpdate, { ...of(two), visibility: 'public' });
    await expect(service.ask(imageShow, { project, image: name })).rejects.toMatchObject({ code: 'image.ambiguous' });
    expect(await service.ask(imageShow, { project: two.project, image: name })).toMatchObject({ id: two.id });
    const own = await service.image({ name, project });
    expect(await service.ask(imageShow, { project, image: name })).toMatchObject({ id: own.id });
    const [first, second] = [
      await service.ask(imageList, { project, name, limit: 1 }),
      await service.ask(imageList, { project, name, limit: 3 }),
    ];
    const rest = await service.ask(imageList, { project, name, cursor: first.next });
    expect([...first.items, ...rest.items]).toEqual(second.items);
    for (const image of [one, two]) await service.tell(imageUpdate, { ...of(image), visibility: 'private' });
  });

  it('is renamed, described, and moved where there is room for it', async () => {
    const image = await service.image({ metadata: { architecture: 'x86_64' } });
    expect(image.metadata).toEqual({
      operatingSystem: null,
      architecture: 'x86_64',
      defaultUser: null,
      userData: false,
    });
    const metadata = { operatingSystem: 'Debian 12', defaultUser: 'debian', userData: true };
    expect(await service.tell(imageUpdate, { ...of(image), name: 'bookworm', metadata })).toMatchObject({
      name: 'bookworm',
      metadata: { ...metadata, architecture: 'x86_64' },
    });
    const there = randomUUID();
    const namesake = await service.image({ name: 'bookworm', project: there });
    await expect(service.tell(imageUpdate, { ...of(image), toProject: there })).rejects.toMatchObject({
      code: 'image.exists',
    });
    await service.tell(imageDelete, of(namesake));
    await service.tell(quotaSet, { project: there, limits: { bytes: 100, disks: null, images: null } });
    await expect(service.tell(imageUpdate, { ...of(image), toProject: there })).rejects.toMatchObject({
      code: 'quota.exceeded',
    });
    await service.tell(quotaSet, { project: there, limits: { bytes: null, disks: null, images: null } });
    expect(await service.tell(imageUpdate, { ...of(image), toProject: there })).toMatchObject({ project: there });
    await expect(see(image.project, image)).rejects.toMatchObject(notThere);
    expect(await see(there, image)).toMatchObject({ name: 'bookworm' });
    expect(await service.events(image.id)).toEqual([
      'image.image.imported',
      'image.image.updated',
      'image.image.updated',
    ]);
  });
});

describe('the tree of an image', () => {
  it('shows what came from what, in one project', async () => {
    const image = await service.image({ name: 'root' });
    const { project } = image;
    const disk = await service.tell(diskCreate, {
      diskId: randomUUID(),
      project,
      name: 'disk',
      from: ofImage(image.id),
    });
    const tag = await service.tell(diskTag, { tagId: randomUUID(), diskId: disk.id, project, name: 'tag' });
    const fork = { diskId: randomUUID(), project, name: 'fork', from: ofDisk(disk.id, tag.id) };
    await service.tell(diskCreate, fork);
    const second = { diskId: randomUUID(), project, name: 'second', from: ofDisk(disk.id) };
    await service.tell(diskCreate, second);
    const automatic = (await service.ask(diskTags, { project, disk: disk.id })).items.find((one) => one.automatic)!;
    const snapshot = service.request({ project, name: 'snap', source: { kind: 'disk', disk: disk.id, tag: tag.id } });
    await service.tell(imageImport, snapshot);
    await service.imported(snapshot);
    await service.tell(imageUpdate, { ...of(image), visibility: 'public' });
    const friend = await clone(randomUUID(), image);
    for (const from of [image.id, snapshot.imageId]) {
      const { items } = await service.ask(imageTree, { project, image: from });
      expect(items.map(({ kind, name, parent }) => [kind, name, parent])).toEqual([
        ['image', 'root', null],
        ['disk', 'disk', image.id],
        ['tag', 'tag', disk.id],
        ['disk', 'fork', tag.id],
        ['tag', automatic.name, disk.id],
        ['disk', 'second', automatic.id],
        ['image', 'snap', tag.id],
      ]);
    }
    const theirs = await service.ask(imageTree, { project: friend.project, image: image.id });
    expect(theirs.items.map(({ id }) => id)).toEqual([image.id, friend.id]);
    await service.tell(imageUpdate, { ...of(image), visibility: 'private' });
  });
});
