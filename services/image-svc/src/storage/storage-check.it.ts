import { diskAttach, diskTag, storageCheck, storageRepair } from '@m2/contracts';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openImage, type TestImage } from '../testing/image.js';

let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());
beforeEach(() => service.storage.volumes.clear());

const found = async () =>
  (await service.ask(storageCheck, { limit: 500 })).items.filter(({ kind }) => kind !== 'volume_missing');
const put = (name: string, kind: 'golden' | 'disk' | 'partial', project: string | null = null) =>
  service.storage.volumes.set(name, { name, kind, project, sizeBytes: 512, tags: [], origin: null });
/** A volume name of this installation that is not in the database. */
const orphan = async () => {
  const [row] = await service.kit.database.query<{ name: string }>(
    `SELECT uid || 'img' || nextval('volume_numbers') AS name FROM installation`,
  );
  return row!.name;
};

describe('the check of the storage', () => {
  it('finds nothing where nothing is wrong, also while disks are used, and leaves what is of others', async () => {
    const disk = await service.disk();
    await service.tell(diskAttach, { diskId: disk.id, project: disk.project, holder: randomUUID() });
    await service.tell(diskTag, { tagId: randomUUID(), diskId: disk.id, project: disk.project, name: 'tag' });
    put('otherimg1', 'golden');
    put(`${disk.volume.replace(/img.*/, '')}2img5`, 'disk');
    expect(await found()).toEqual([]);
  });

  it('explains each difference, and repairs it when its time of grace is over, not before', async () => {
    const disk = await service.disk();
    const project = randomUUID();
    const [golden, clone, partial] = [await orphan(), await orphan(), await orphan()];
    put(golden, 'golden');
    put(clone, 'disk', project);
    put(partial, 'partial');
    const stray = `t${randomUUID().replaceAll('-', '')}`;
    service.storage.volumes.get(disk.volume)?.tags.push(stray);
    const items = await found();
    expect(items.map(({ kind, volume, tag }) => [kind, volume, tag]).toSorted()).toEqual(
      [
        ['volume_without_owner', golden, null],
        ['volume_without_owner', clone, null],
        ['volume_partial', partial, null],
        ['tag_without_owner', disk.volume, stray],
      ].toSorted(),
    );
    for (const { explanation, repair, firstSeenAt, repairableAt } of items) {
      expect(explanation.length).toBeGreaterThan(20);
      expect(repair).toMatch(/^remove the /);
      expect(Date.parse(repairableAt as string) - Date.parse(firstSeenAt)).toBe(3_600_000);
    }
    expect((await service.tell(storageRepair, {})).repaired).toEqual([]);
    expect(service.storage.volumes.has(golden)).toBe(true);
    const before = new Map(items.map(({ volume, firstSeenAt }) => [volume, firstSeenAt]));
    await service.restart(undefined, { M2_ORPHAN_GRACE_SECONDS: '0' });
    for (const { volume, firstSeenAt } of await found()) expect(firstSeenAt).toBe(before.get(volume));
    const { repaired, left } = await service.tell(storageRepair, {});
    expect(repaired).toHaveLength(4);
    expect(left.filter(({ kind }) => kind !== 'volume_missing')).toEqual([]);
    expect([...service.storage.volumes.keys()].filter((name) => [golden, clone, partial].includes(name))).toEqual([]);
    expect(service.storage.volumes.get(disk.volume)?.tags).toEqual([]);
    expect(await service.events(golden)).toEqual(['image.storage.repaired']);
    await service.restart();
  });

  it('repairs nothing before its time because the clock of this host is ahead', async () => {
    const golden = await orphan();
    put(golden, 'golden');
    await found();
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      // oxlint-disable-next-line no-restricted-properties -- it is set
      vi.setSystemTime(Date.now() + 24 * 3_600_000);
      expect(await service.tell(storageRepair, {})).toMatchObject({ repaired: [], more: false });
    } finally {
      vi.useRealTimers();
    }
    expect(service.storage.volumes.has(golden)).toBe(true);
  });

  it('finds 3,000 differences, page by page, and repairs some at a time until none is left', async () => {
    await service.restart(undefined, { M2_ORPHAN_GRACE_SECONDS: '0' });
    const [installation] = await service.kit.database.query<{ uid: string }>('SELECT uid FROM installation');
    const names = Array.from({ length: 3_000 }, (_, at) => `${installation!.uid}img${900_000 + at}`);
    for (const name of names) put(name, 'golden');
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await service.ask(storageCheck, { limit: 500, ...(cursor && { cursor }) });
      seen.push(...page.items.filter(({ kind }) => kind === 'volume_without_owner').map(({ volume }) => volume));
      cursor = page.next;
    } while (cursor !== undefined);
    expect(seen.toSorted()).toEqual(names);
    await expect(service.ask(storageCheck, { cursor: 'golden' })).rejects.toMatchObject({ code: 'request.invalid' });

    for (const name of names.slice(50)) service.storage.volumes.delete(name);
    const rounds: number[] = [];
    for (let more = true; more;) {
      const round = await service.tell(storageRepair, {});
      rounds.push(round.repaired.length);
      ({ more } = round);
    }
    expect(rounds).toEqual([20, 20, 10]);
    await service.restart();
  });

  it('says what others made of a disk, and leaves it alone', async () => {
    const disk = await service.disk();
    await service.restart(undefined, { M2_ORPHAN_GRACE_SECONDS: '0' });
    service.storage.volumes.get(disk.volume)?.tags.push('nightly');
    expect(await found()).toMatchObject([
      { kind: 'tag_without_owner', volume: disk.volume, tag: 'nightly', repair: null, repairableAt: null },
    ]);
    expect((await service.tell(storageRepair, {})).repaired).toEqual([]);
    expect(service.storage.volumes.get(disk.volume)?.tags).toEqual(['nightly']);
    await service.restart();
  });

  it('says what is lost, and repairs nothing of it', async () => {
    const disk = await service.disk();
    await service.tell(diskTag, { tagId: randomUUID(), diskId: disk.id, project: disk.project, name: 'tag' });
    service.storage.volumes.get(disk.volume)!.tags.length = 0;
    expect(await found()).toMatchObject([
      { kind: 'tag_missing', volume: disk.volume, repair: null, repairableAt: null },
    ]);
    service.storage.volumes.delete(disk.volume);
    const { items } = await service.ask(storageCheck, { limit: 500 });
    expect(items).toContainEqual(
      expect.objectContaining({ kind: 'volume_missing', volume: disk.volume, project: disk.project, repair: null }),
    );
  });
});
