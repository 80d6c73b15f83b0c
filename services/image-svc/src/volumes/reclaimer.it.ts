import { projectDeleted, storageFreeing } from '@m2/contracts';
import { publishEvent, until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
let uid: string;
let count = 0;
beforeAll(async () => {
  service = await openImage();
  uid = (await service.kit.database.query<{ uid: string }>('SELECT uid FROM installation'))[0]!.uid;
});
afterAll(() => service?.close());

const removed = (more: object = {}) => ({
  name: `${uid}img${900_000 + (count += 1)}`,
  project: randomUUID(),
  id: randomUUID(),
  ...more,
});
const recorded = () => service.kit.database.query('SELECT id FROM freeing');
const left = async () => (await service.storage.removed()).map(({ id }) => id);

describe('what was removed', () => {
  it('is freed in the background, again after a failure or a restart, and stopped when the service ends', async () => {
    const volume = removed();
    const release = service.storage.hold('free');
    service.storage.leave(volume);
    await until('it is begun', () => service.storage.calls.includes(`free ${volume.name}`));
    expect(await left()).toEqual([volume.id]);
    const seen = await until('its progress is seen', async () => {
      const { items } = await service.ask(storageFreeing, { limit: 10 });
      return items[0]?.progress && items;
    });
    const { id, project } = volume;
    expect(seen).toEqual([{ id, volume: volume.name, project, progress: { phase: 'free', done: 1, total: 2 } }]);
    await service.restart(async () => {
      expect(await left()).toEqual([volume.id]);
      service.storage.failing = { method: 'free', code: 'storage.unavailable' };
      release();
    });
    await service.restart();
    await until('it is freed', async () => (await left()).length === 0);
    expect(await service.ask(storageFreeing, { limit: 10 })).toEqual({ items: [] });
    await until('how far that was is forgotten', async () => (await recorded()).length === 0);
  });

  it('is listed page by page, also before its turn comes, and not when another installation removed it', async () => {
    const release = service.storage.hold('free');
    const volumes = [1, 2, 3].map(() => removed());
    for (const volume of [...volumes, removed({ name: 'otherimg9' })]) service.storage.leave(volume);
    const ids = volumes.map(({ id }) => id).toSorted();
    const first = await service.ask(storageFreeing, { limit: 2 });
    const last = await service.ask(storageFreeing, { limit: 2, cursor: first.next! });
    expect([first.next, ...[first, last].map(({ items }) => items.map(({ id }) => id))]).toEqual([
      ids[1],
      ids.slice(0, 2),
      ids.slice(2),
    ]);
    expect([...first.items, ...last.items].find(({ id }) => id === volumes[2]!.id)!.progress).toBeNull();
    release();
    await until('they are freed', async () => (await left()).length === 0);
  });

  it('waits for what was cloned from it', async () => {
    const [golden, clone] = [removed({ project: null }), removed()];
    service.storage.failing = { method: 'free', code: 'storage.in_use' };
    service.storage.leave(golden);
    await until('it was tried', () => service.storage.calls.includes(`free ${golden.name}`));
    service.storage.leave(clone);
    await until('both are freed', async () => (await left()).length === 0);
    const tried = service.storage.calls.filter((call) => call.startsWith('free'));
    expect(tried.slice(-3)).toEqual([`free ${golden.name}`, `free ${clone.name}`, `free ${golden.name}`]);
  });

  it('is left alone when another installation removed it, or when the database still has it', async () => {
    const theirs = removed({ name: 'otherimg1' });
    const disk = await service.disk();
    const taken = removed({ name: disk.volume, project: disk.project });
    await service.restart(async () => {
      for (const volume of [theirs, taken]) service.storage.leave(volume);
      service.storage.calls.length = 0;
    });
    const ours = removed();
    service.storage.leave(ours);
    await until('ours is freed', async () => !(await left()).includes(ours.id));
    expect(await left()).toEqual([theirs.id, taken.id]);
    expect(service.storage.calls.filter((call) => call.startsWith('free'))).toEqual([`free ${ours.name}`]);
  });
});

describe('a deleted project', () => {
  it('is forgotten by the storage when the last of its volumes is freed', async () => {
    const volume = removed();
    const release = service.storage.hold('free');
    service.storage.leave(volume);
    const id = volume.project;
    await publishEvent(await service.env.bus(), projectDeleted, { id, project: id, name: 'gone' });
    await until('that is on record', async () =>
      (await service.kit.database.query('SELECT FROM ended_projects WHERE project = $1', [id])).at(0),
    );
    expect(service.storage.calls).not.toContain(`forget ${id}`);
    release();
    await until('it is forgotten', () => service.storage.calls.includes(`forget ${id}`));
    await until(
      'that needs no record',
      async () => (await service.kit.database.query('SELECT FROM ended_projects')).length === 0,
    );
  });
});
