import {
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  diskFlatten,
  diskList,
  diskRestore,
  diskRollback,
  diskShow,
  diskTag,
  diskTags,
  diskUntag,
  diskUpdate,
  imageDelete,
  imageImport,
  imageList,
  imageShow,
  imageTree,
  imageUpdate,
  quotaSet,
  quotaShow,
  storageRepair,
} from '@m2/contracts';
import type { Sql } from '@m2/service-kit';
import { askedOften, watchPlans } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ofDisk, ofImage, openImage, type TestImage } from './testing/image.js';

/** Rows of one table that one statement may look at: a page, and some more, among ten thousand. */
const enough = 1_000;
const many = 10_000;
const bigProject = '00000000-0000-7000-8000-000000000001';
const golden = '00000000-0000-7000-8000-000000000002';

let service: TestImage;
let plans: Awaited<ReturnType<typeof watchPlans>>;

/** A project with half of all disks, which have tags and forks, a trash, and images of which others share some. */
async function fill(sql: Sql): Promise<void> {
  const id = (what: string, n = 'n') => `('00000000-0000-70${what}-8000-' || lpad((${n})::text, 12, '0'))::uuid`;
  const project = `CASE WHEN n % 2 = 0 THEN '${bigProject}'::uuid ELSE ${id('00', 'n % 500 + 10')} END`;
  await sql.query(
    `INSERT INTO images (id, project, name, state, volume, source, size_bytes, visibility, shared_with)
     SELECT ${id('01')}, ${project}, 'image-' || n, 'ready', 'vimg' || n,
       CASE WHEN n % 3 = 0 THEN jsonb_build_object('kind', 'image', 'image', ${id('01', 'n - 2')}) ELSE '{"kind": "upload"}' END, 4096,
       CASE WHEN n % 1000 = 1 THEN 'public' WHEN n % 3 = 1 THEN 'shared' ELSE 'private' END,
       CASE WHEN n % 3 = 1 THEN ARRAY[${id('00', 'n % 700 + 10')}] ELSE '{}'::uuid[] END
     FROM generate_series(1, $1::int) n
     UNION ALL SELECT '${golden}', '${bigProject}', 'golden', 'ready', 'vimg0', '{"kind": "upload"}', 4096, 'private', '{}'`,
    [many / 2],
  );
  await sql.query(
    `INSERT INTO disks (id, project, name, state, volume, image, size_bytes, depth, trashed_at)
     SELECT ${id('02')}, ${project}, 'disk-' || n, CASE WHEN n % 10 = 0 THEN 'trashed' ELSE 'ready' END, 'vimg' || (100000 + n),
       ${id('01', `n / 2 % ${many / 2} + 1`)}, 4096, 1, CASE WHEN n % 10 = 0 THEN now() END
     FROM generate_series(1, $1::int) n`,
    [many],
  );
  await sql.query(
    `INSERT INTO tags (id, disk, name, state, automatic, volume, depth, size_bytes, created_at)
     SELECT ${id('03')}, ${id('02')}, 'tag-1', 'ready', n % 2 = 0, 'vimg' || (100000 + n), 1, 4096, now()
     FROM generate_series(1, $1::int) n`,
    [many],
  );
  await sql.query(
    `INSERT INTO disks (id, project, name, state, volume, parent_tag, size_bytes, depth)
     SELECT ${id('04')}, ${project}, 'fork-' || n, 'ready', 'vimg' || (200000 + n), ${id('03')}, 4096, 2
     FROM generate_series(1, $1::int) n`,
    [many],
  );
  await sql.query(
    `INSERT INTO quotas (project, bytes, disks) SELECT ${id('00')}, 1e15, 100000 FROM generate_series(1, $1::int) n`,
    [many / 10],
  );
}

beforeAll(async () => {
  service = await openImage({ M2_ORPHAN_GRACE_SECONDS: '0' });
  await fill(service.kit.database);
  plans = await watchPlans(service.kit.database);
});
afterAll(() => service?.close());

const tooMany = () => plans.scans().filter(({ rows }) => rows > enough);
const project = bigProject;

describe('with 20,000 disks, no statement looks at more than it needs', () => {
  it('of a question that is asked again and again', async () => {
    for (const name of [undefined, 'disk-17', 'image-7'])
      for (const page of [{ limit: 50 }, { limit: 50, cursor: 'disk-5' }])
        await askedOften(() => service.ask(diskList, { project, ...page, ...(name !== undefined && { name }) }));
    for (const of of [{ own: true }, { own: false }, { own: true, name: 'image-7' }])
      await askedOften(() => service.ask(imageList, { project, limit: 50, ...of }));
    const { id: disk } = await service.ask(diskShow, { project, disk: 'disk-2' });
    await askedOften(() => service.ask(diskTags, { project, disk, limit: 50 }));
    expect(tooMany()).toEqual([]);
  });

  it('of a question', async () => {
    const { items } = await service.ask(diskList, { project, limit: 50 });
    await service.ask(diskList, { project, limit: 50, cursor: items.at(-1)!.name });
    const trash = await service.ask(diskList, { project, trashed: true, limit: 50 });
    expect(trash.next).toBe(trash.items.at(-1)!.id);
    const more = await service.ask(diskList, { project, trashed: true, limit: 50, cursor: trash.next! });
    expect(more.items).toHaveLength(50);
    await service.ask(diskList, { project, limit: 50, name: 'disk-17' });
    for (const disk of ['disk-2', items[0]!.id]) await service.ask(diskShow, { project, disk });
    await service.ask(diskTags, { project, disk: items[0]!.id, limit: 50 });
    for (const own of [true, false]) {
      const { next } = await service.ask(imageList, { project, own, limit: 50 });
      expect(next).toBeDefined();
      await service.ask(imageList, { project, own, limit: 50, cursor: next! });
      await service.ask(imageList, { project, own, limit: 50, name: 'image-7' });
    }
    for (const image of ['golden', 'image-8', golden, 'image-1001']) await service.ask(imageShow, { project, image });
    expect((await service.ask(imageTree, { project, image: 'image-4' })).items.length).toBeGreaterThan(3);
    const { used } = await service.ask(quotaShow, { project });
    expect(used).toMatchObject({ disks: many, images: many / 4 + 1 });
    expect(tooMany().filter(({ statement }) => !statement.includes('count_use'))).toEqual([]);
  });

  it('of a change, also where the project has a quota', async () => {
    await service.tell(quotaSet, { project, limits: { bytes: 1e15, disks: 20_000, images: 20_000 } });
    plans.forget();
    const made = async (name: string, from: { kind: 'image'; image: string } | { kind: 'disk'; disk: string }) =>
      service.tell(diskCreate, { diskId: randomUUID(), project, name, from });
    // The recorded storage has no volumes of what was filled in.
    const image = await service.image({ project });
    const disk = await made('new', ofImage(image.id));
    const of = { diskId: disk.id, project };
    await service.tell(diskAttach, { ...of, holder: golden });
    await service.tell(diskDetach, { ...of, holder: golden });
    await service.tell(diskUpdate, { ...of, sizeBytes: 2 * disk.sizeBytes });
    const tag = await service.tell(diskTag, { ...of, tagId: randomUUID(), name: 'before' });
    await service.tell(diskRollback, { ...of, tag: tag.id });
    const fork = await made('fork', ofDisk(disk.id));
    await service.tell(diskFlatten, { diskId: fork.id, project });
    await service.tell(diskDelete, { diskId: fork.id, project, purge: true });
    const second = await service.tell(diskTag, { ...of, tagId: randomUUID(), name: 'second' });
    await service.tell(diskUntag, { ...of, tagId: second.id });
    await service.tell(diskDelete, { ...of, purge: false });
    await service.tell(diskRestore, { ...of });
    await service.tell(diskDelete, { ...of, purge: true });
    await service.tell(imageUpdate, { imageId: image.id, project, name: 'renamed' });
    await service.tell(imageDelete, { imageId: image.id, project });
    const copy = { ...service.request(), project, source: { kind: 'image' as const, image: golden, project } };
    await service.tell(imageImport, copy).catch(() => {});
    expect(tooMany()).toEqual([]);
    expect((await service.ask(quotaShow, { project })).used).toMatchObject({ disks: many });
  });

  it('of a repair, whose every finding is looked at again by its volume alone', async () => {
    const { uid } = (await service.kit.database.query<{ uid: string }>('SELECT uid FROM installation'))[0]!;
    // Nothing is missing of what is on its way out.
    for (const table of ['images', 'disks', 'tags'])
      await service.kit.database.query(`UPDATE ${table} SET state = 'deleting'`);
    for (let n = 1; n <= 20; n++)
      await service.storage.ensureGolden(`${uid}img${900_000 + n}`, { path: service.file(), format: 'raw' });
    plans.forget();
    const { repaired } = await service.tell(storageRepair, {});
    expect(repaired).toHaveLength(20);
    // For the findings before, and for those that are left.
    const whole = tooMany().filter(({ table, statement }) => table === 'images' && statement.includes('golden'));
    expect(whole).toHaveLength(2);
  });
});
