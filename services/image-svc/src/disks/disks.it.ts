import { type Disk, diskAttach, diskCreate, diskDelete, diskDetach, diskList, diskShow } from '@m2/contracts';
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
  service.storage.calls.length = 0;
  service.storage.failing = undefined;
});

const claim = ({ id: diskId, project }: Disk, holder: string = randomUUID()) => ({ diskId, project, holder });
const shown = ({ id, project }: Disk) => service.ask(diskShow, { disk: id, project });

describe('a disk', () => {
  it('is a clone of its image, as large as that or larger', async () => {
    const { id: image, project } = await service.image();
    const same = await service.tell(diskCreate, { diskId: randomUUID(), project, name: 'same', from: ofImage(image) });
    expect(same).toMatchObject({ state: 'ready', image, sizeBytes: 4096, holder: null });
    const larger = await service.tell(diskCreate, {
      diskId: randomUUID(),
      project,
      name: 'larger',
      from: ofImage(image),
      sizeBytes: 10_000,
    });
    expect(larger.sizeBytes).toBe(10_240);
    expect(service.storage.volumes.get(larger.volume)).toMatchObject({ kind: 'disk', sizeBytes: 10_240 });
    const smaller = { diskId: randomUUID(), project, name: 'smaller', from: ofImage(image), sizeBytes: 2_048 };
    await expect(service.tell(diskCreate, smaller)).rejects.toMatchObject({ code: 'disk.too_small' });
    expect(await service.events(same.id)).toEqual(['image.disk.created']);
  });

  it('has a name of its own in its project, whoever asks at the same moment', async () => {
    const { id: image, project } = await service.image();
    const wanting = Array.from({ length: 5 }, () => ({
      diskId: randomUUID(),
      project,
      name: 'one',
      from: ofImage(image),
    }));
    const outcomes = await Promise.allSettled(wanting.map((one) => service.tell(diskCreate, one)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes.filter(({ status }) => status === 'rejected'))
      expect((outcome as PromiseRejectedResult).reason).toMatchObject({ code: 'disk.exists' });
    expect((await service.ask(diskList, { project })).items).toHaveLength(1);
  });

  it('never gets the volume name of another, not even of one that is gone', async () => {
    const names = new Set<string>();
    for (let round = 0; round < 3; round += 1) {
      const disk = await service.disk();
      names.add(disk.volume);
      await service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true });
    }
    expect(names.size).toBe(3);
  });

  it('whose cloning died keeps its volume name when it is made again', async () => {
    const { id: image, project } = await service.image();
    const input = { diskId: randomUUID(), project, name: 'again', from: ofImage(image) };
    const effect = `${randomUUID()}/clone-disk/do`;
    service.storage.failing = { method: 'clone', code: 'storage.timeout' };
    await expect(service.tell(diskCreate, input, effect)).rejects.toMatchObject({ code: 'storage.timeout' });
    const made = await service.tell(diskCreate, input, effect);
    expect(await service.tell(diskCreate, input, effect)).toEqual(made);
    expect(service.storage.calls.filter((call) => call === `clone ${made.volume}`)).toHaveLength(2);
    expect(await service.events(made.id)).toEqual(['image.disk.created']);
  });

  it('is not cloned from the image of another project', async () => {
    const { id: image } = await service.image();
    const foreign = { diskId: randomUUID(), project: randomUUID(), name: 'stolen', from: ofImage(image) };
    await expect(service.tell(diskCreate, foreign)).rejects.toMatchObject({ code: 'image.not_found' });
  });
});

describe('a claim', () => {
  it('goes to one of those who want it at the same moment', async () => {
    const disk = await service.disk();
    const claims = Array.from({ length: 8 }, () => claim(disk));
    const outcomes = await Promise.allSettled(claims.map((one) => service.tell(diskAttach, one)));
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(won).toHaveLength(1);
    expect(won[0]).toMatchObject({
      disk: { id: disk.id },
      backing: { type: 'file', path: `/attached/${disk.volume}` },
    });
    for (const outcome of outcomes.filter(({ status }) => status === 'rejected'))
      expect((outcome as PromiseRejectedResult).reason).toMatchObject({ code: 'disk.in_use' });
    expect((await shown(disk)).holder).toBe(won[0]!.disk.holder);
    expect(await service.events(disk.id)).toEqual(['image.disk.created', 'image.disk.attached']);
  });

  it('may be asked for again by who has it', async () => {
    const disk = await service.disk();
    const mine = claim(disk);
    const first = await service.tell(diskAttach, mine);
    expect(await service.tell(diskAttach, mine)).toEqual(first);
  });

  it('is given back by who has it alone, and then goes to the next', async () => {
    const disk = await service.disk();
    const [mine, other] = [claim(disk), claim(disk)];
    await service.tell(diskAttach, mine);
    await service.tell(diskDetach, other);
    expect(service.storage.attached.has(disk.volume)).toBe(true);
    await service.tell(diskDetach, mine);
    await service.tell(diskDetach, mine);
    expect(service.storage.attached.has(disk.volume)).toBe(false);
    await service.tell(diskAttach, other);
    expect((await shown(disk)).holder).toBe(other.holder);
    expect((await service.events(disk.id)).slice(1)).toEqual([
      'image.disk.attached',
      'image.disk.detached',
      'image.disk.attached',
    ]);
  });

  it('whose attaching failed stays, so that nobody else gets the disk before it is undone', async () => {
    const disk = await service.disk();
    const [mine, other] = [claim(disk), claim(disk)];
    service.storage.failing = { method: 'attach', code: 'storage.unavailable' };
    await expect(service.tell(diskAttach, mine)).rejects.toMatchObject({ code: 'storage.unavailable' });
    await expect(service.tell(diskAttach, other)).rejects.toMatchObject({ code: 'disk.in_use' });
    await service.tell(diskDetach, mine);
    await expect(service.tell(diskAttach, other)).resolves.toMatchObject({ disk: { holder: other.holder } });
  });

  it('whose detaching failed stays, too', async () => {
    const disk = await service.disk();
    const mine = claim(disk);
    await service.tell(diskAttach, mine);
    service.storage.failing = { method: 'detach', code: 'storage.timeout' };
    await expect(service.tell(diskDetach, mine)).rejects.toMatchObject({ code: 'storage.timeout' });
    expect((await shown(disk)).holder).toBe(mine.holder);
    await service.tell(diskDetach, mine);
    expect((await shown(disk)).holder).toBeNull();
  });

  it('on a disk of another project is refused', async () => {
    const disk = await service.disk();
    await expect(service.tell(diskAttach, { ...claim(disk), project: randomUUID() })).rejects.toMatchObject({
      code: 'disk.not_found',
    });
  });
});

describe('deleting a disk', () => {
  it('that somebody holds is refused; afterwards it goes, with its data', async () => {
    const disk = await service.disk();
    const mine = claim(disk);
    await service.tell(diskAttach, mine);
    const deleting = { diskId: disk.id, project: disk.project, purge: true };
    await expect(service.tell(diskDelete, deleting)).rejects.toMatchObject({
      code: 'disk.in_use',
      detail: expect.stringContaining(mine.holder) as string,
    });
    await service.tell(diskDetach, mine);
    await service.tell(diskDelete, deleting);
    expect(service.storage.volumes.has(disk.volume)).toBe(false);
    await service.tell(diskDelete, deleting);
    expect((await service.events(disk.id)).filter((type) => type === 'image.disk.deleted')).toHaveLength(1);
  });

  it('while somebody claims it is won by one of the two', async () => {
    for (let round = 0; round < 8; round += 1) {
      const disk = await service.disk();
      const [attached, deleted] = await Promise.allSettled([
        service.tell(diskAttach, claim(disk)),
        service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true }),
      ]);
      expect([attached.status, deleted.status].toSorted()).toEqual(['fulfilled', 'rejected']);
      expect(service.storage.volumes.has(disk.volume)).toBe(attached.status === 'fulfilled');
    }
  });

  it('that is on its way out is nobody’s to claim', async () => {
    const disk = await service.disk();
    service.storage.failing = { method: 'remove', code: 'storage.timeout' };
    await expect(
      service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true }),
    ).rejects.toMatchObject({
      code: 'storage.timeout',
    });
    await expect(service.tell(diskAttach, claim(disk))).rejects.toMatchObject({ code: 'disk.in_use' });
    await service.tell(diskDelete, { diskId: disk.id, project: disk.project, purge: true });
  });

  it('of another project does nothing', async () => {
    const disk = await service.disk();
    await service.tell(diskDelete, { diskId: disk.id, project: randomUUID(), purge: true });
    expect(await shown(disk)).toEqual(disk);
  });
});

describe('disks in use', () => {
  it('are attached again when the service starts, and the others are not', async () => {
    const [held, free] = [await service.disk(), await service.disk()];
    await service.tell(diskAttach, claim(held));
    await service.restart(async () => service.storage.attached.clear());
    expect(service.storage.attached.has(held.volume)).toBe(true);
    expect(service.storage.attached.has(free.volume)).toBe(false);
  });

  it('whose path was lost and is back are told of, the others not', async () => {
    const [held, free] = [await service.disk(), await service.disk()];
    await service.tell(diskAttach, claim(held));
    service.storage.lose(held.volume, free.volume, 'm0img0');
    await until('it is told of', async () => (await service.events(held.id)).includes('image.disk.reattached'));
    expect(await service.events(free.id)).toEqual(['image.disk.created']);
  });
});
