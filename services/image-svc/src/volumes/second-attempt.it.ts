import {
  type Call,
  callsOf,
  type Disk,
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  diskFlatten,
  diskFlattenCancel,
  diskRestore,
  diskRollback,
  diskShow,
  diskTag,
  diskUntag,
  diskUpdate,
  imageDelete,
  imageExportCancel,
  imageExportStart,
  imageImport,
  imageShow,
  imageUpdate,
  quotaSet,
  quotaShow,
  storageRepair,
} from '@m2/contracts';
import type { StorageErrorCode } from '@m2/storage';
import { until } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { storageTag } from '../disks/tag-store.js';
import { ofDisk, ofImage, openImage, type TestImage } from '../testing/image.js';

/**
 * A service dies after it has put on record what it is about to do, before or after it has done it. The command comes again and is refused.
 * Then the operation is undone, where its saga can. After that the API, the quota and the storage have to say the same.
 */
let service: TestImage;
beforeAll(async () => {
  service = await openImage();
});
afterAll(() => service?.close());
beforeEach(() => {
  service.storage.failing = undefined;
});

type Method = NonNullable<TestImage['storage']['failing']>['method'];
type Tell = () => Promise<unknown>;

interface Case {
  name: string;
  /** What the handler does in the storage, where it dies. */
  method: Method;
  /** What others try meanwhile. */
  meanwhile?: (disk: Disk) => Tell;
  /** How that ends: with this code, or, absent, well. */
  refused?: string;
  /** With what the storage refuses the second attempt; absent: somebody else's change does, or nothing. */
  refusal?: StorageErrorCode;
  /** The code of the second attempt; absent: it succeeds. */
  code?: string;
  command: (disk: Disk, effect: string) => Tell;
  /** What the saga sends then. */
  undo?: (disk: Disk) => Tell;
  before?: (disk: Disk) => Promise<unknown>;
}

const of = ({ id, project }: Disk) => ({ diskId: id, project });
const mine = randomUUID;
let [tagId, made, holder] = [mine(), mine(), mine()];
const tagged = (disk: Disk) => service.tell(diskTag, { ...of(disk), tagId, name: 'then' });
const attach = (disk: Disk) => () => service.tell(diskAttach, { ...of(disk), holder });
const trash = (disk: Disk) => () => service.tell(diskDelete, { ...of(disk), purge: false });
const larger = 65_536;
const update = (more: object) => (disk: Disk, effect: string) => () =>
  service.tell(diskUpdate, { ...of(disk), sizeBytes: larger, ...more }, effect);
const rollback = (disk: Disk, effect: string) => () => service.tell(diskRollback, { ...of(disk), tag: tagId }, effect);
const purgeMade = (disk: Disk) => () => service.tell(diskDelete, { diskId: made, project: disk.project, purge: true });
const refusedAs = (refusal: StorageErrorCode) => ({ refusal, code: refusal });

const cases: [Call, Case[]][] = [
  [
    diskCreate,
    [
      {
        name: 'of an image',
        method: 'clone',
        ...refusedAs('storage.full'),
        command: (disk, effect) => () =>
          service.tell(
            diskCreate,
            { diskId: made, project: disk.project, name: 'new', from: ofImage(disk.image!) },
            effect,
          ),
        undo: purgeMade,
      },
      ...(['tag', 'clone'] as const).map((method) => ({
        name: `of a disk, at its ${method}`,
        method,
        ...refusedAs('storage.full'),
        command: (disk: Disk, effect: string) => () =>
          service.tell(diskCreate, { diskId: made, project: disk.project, name: 'new', from: ofDisk(disk.id) }, effect),
        undo: purgeMade,
      })),
    ],
  ],
  [
    diskUpdate,
    [
      { name: 'that a node wants', method: 'size', meanwhile: attach, refused: 'disk.in_use', command: update({}) },
      { name: 'that is to be deleted', method: 'size', meanwhile: trash, refused: 'disk.in_use', command: update({}) },
      { name: 'that the storage refuses', method: 'size', ...refusedAs('storage.full'), command: update({}) },
      {
        name: 'to a name that is taken meanwhile',
        method: 'size',
        meanwhile: ({ project, image }) => {
          const request = { diskId: mine(), project, name: 'taken', from: ofImage(image!) };
          return () => service.tell(diskCreate, request);
        },
        code: 'disk.exists',
        command: update({ name: 'taken' }),
      },
    ],
  ],
  [
    diskAttach,
    [
      {
        name: 'that the storage refuses',
        method: 'attach',
        ...refusedAs('storage.not_found'),
        command: (disk, effect) => () => service.tell(diskAttach, { ...of(disk), holder }, effect),
        undo: (disk) => () => service.tell(diskDetach, { ...of(disk), holder }),
      },
    ],
  ],
  [
    diskTag,
    [
      {
        name: 'of a disk that is deleted meanwhile',
        method: 'tag',
        meanwhile: trash,
        code: 'disk.not_ready',
        command: (disk, effect) => () => service.tell(diskTag, { ...of(disk), tagId, name: 'then' }, effect),
        undo: (disk) => () => service.tell(diskUntag, { ...of(disk), tagId }),
      },
    ],
  ],
  [
    diskRollback,
    [
      { name: 'that a node wants', method: 'clone', before: tagged, meanwhile: attach, refused: 'disk.in_use' },
      { name: 'that is to be deleted', method: 'clone', before: tagged, meanwhile: trash, refused: 'disk.in_use' },
      { name: 'that the storage refuses', method: 'clone', before: tagged, ...refusedAs('storage.full') },
      {
        name: 'to a size for which there is no room any more',
        method: 'clone',
        before: async (disk: Disk) => {
          const small = (await service.tell(diskTag, { ...of(disk), tagId: mine(), name: 'small' })).id;
          await service.tell(diskUpdate, { ...of(disk), sizeBytes: larger });
          await tagged(disk);
          await service.tell(diskRollback, { ...of(disk), tag: small });
        },
        meanwhile:
          ({ project }: Disk) =>
          () =>
            service.tell(quotaSet, { project, limits: { bytes: 16_384, disks: null, images: null } }),
        code: 'quota.exceeded',
      },
    ].map((one) => ({ ...one, command: rollback }) as Case),
  ],
  [
    imageImport,
    [
      {
        name: 'from a disk',
        method: 'tag',
        ...refusedAs('storage.not_found'),
        command: (disk, effect) => () => {
          const source = { kind: 'disk' as const, disk: disk.id };
          return service.tell(imageImport, { imageId: made, project: disk.project, name: 'new', source }, effect);
        },
        undo: (disk) => () => service.tell(imageDelete, { imageId: made, project: disk.project }),
      },
    ],
  ],
];

/** They change rows only, in one transaction with their answer. */
const oneTransaction: Call[] = [diskFlatten, diskFlattenCancel, diskRestore, imageExportStart, imageUpdate, quotaSet];
/** They take back or remove for good, and are finished later where they are refused: nothing is restored. */
const onlyForward: Call[] = [diskDelete, diskDetach, diskUntag, imageDelete, imageExportCancel, storageRepair];

it('every command of the service is one of these', () => {
  const subjects = (of: Call[]) => of.map(({ subject }) => subject).toSorted();
  const commands = callsOf('image').filter(({ kind }) => kind === 'command');
  const known = [...cases.map(([call]) => call), ...oneTransaction, ...onlyForward];
  expect(subjects(known)).toEqual(subjects(commands));
});

/** Rows of a project that say what is not so, and volumes that no row explains. */
async function lies(project: string): Promise<unknown[]> {
  const { volumes } = service.storage;
  const rows = <Row extends object>(query: string) => service.kit.database.query<Row>(query, [project]);
  const owners = await rows<{ state: string; volume: string; size: number; grows: number | null }>(
    `SELECT state, volume, size_bytes::float8 AS size, NULL AS grows FROM images WHERE project = $1
     UNION ALL SELECT state, volume, size_bytes::float8, grows_to FROM disks WHERE project = $1`,
  );
  const tags = await rows<{ id: string; volume: string; state: string }>(
    'SELECT t.id, t.volume, t.state FROM tags t JOIN disks d ON d.id = t.disk WHERE d.project = $1',
  );
  const former = await rows<{ volume: string; pending: boolean }>(
    'SELECT f.volume, f.pending FROM former_volumes f JOIN disks d ON d.id = f.disk WHERE d.project = $1',
  );
  const owned = new Set([...owners, ...former].map(({ volume }) => volume));
  return [
    ...owners.filter(({ state, grows }) => !['ready', 'trashed'].includes(state) || grows !== null),
    ...owners.filter(({ volume, size }) => volumes.get(volume)?.sizeBytes !== size),
    ...former.filter(({ pending }) => pending),
    ...tags.filter(({ id, volume, state }) => state !== 'ready' || !volumes.get(volume)?.tags.includes(storageTag(id))),
    ...[...volumes.values()].filter((volume) => volume.project === project && !owned.has(volume.name)),
  ];
}

const codeOf = (tell: Tell) =>
  tell().then(
    () => undefined,
    (error: { code?: string }) => error.code,
  );

describe.each(cases)('$subject', (_, ofCommand) => {
  describe.each(ofCommand)('$name', ({ method, before, meanwhile, refused, refusal, code, command, undo }) => {
    const deaths: [string, { after?: true }][] = [
      ['before it acted', {}],
      ['when it had acted', { after: true }],
    ];
    it.each(deaths)('died %s, and comes again', async (_when, { after }) => {
      [tagId, made, holder] = [mine(), mine(), mine()];
      const disk = await service.disk();
      await before?.(disk);
      const told = command(disk, `${mine()}/step/do`);
      // For the handler it is the same: it ends there, nobody has an answer, and nothing is on record as done.
      service.storage.failing = { method, code: 'storage.timeout', ...(after && { after }) };
      const codes = [await codeOf(told), meanwhile && (await codeOf(meanwhile(disk)))];
      service.storage.failing = refusal && { method, code: refusal };
      codes.push(await codeOf(told));
      service.storage.failing = undefined;
      codes.push(undo && (await codeOf(undo(disk))));
      expect(codes).toEqual(['storage.timeout', refused, code, undefined]);
      expect(await lies(disk.project)).toEqual([]);
      const { used } = await service.ask(quotaShow, { project: disk.project });
      const [rows] = await service.kit.database.query<{ bytes: number }>(
        `SELECT (coalesce((SELECT sum(size_bytes) FROM disks WHERE project = $1), 0)
           + coalesce((SELECT sum(size_bytes) FROM images WHERE project = $1), 0))::float8 AS bytes`,
        [disk.project],
      );
      expect(used.bytes).toBe(rows!.bytes);
    });
  });
});

describe('what nobody went on with', () => {
  const age = (disk: Disk, by: string) =>
    service.kit.database.query('UPDATE disks SET grows_since = now() - $2::interval WHERE id = $1', [disk.id, by]);

  it('is settled by the housekeeping: the disk has the size that its volume has', async () => {
    const sizes: number[] = [];
    for (const after of [false, true]) {
      const disk = await service.disk();
      service.storage.failing = { method: 'size', code: 'storage.timeout', ...(after && { after: true }) };
      expect(await codeOf(update({})(disk, `${mine()}/step/do`))).toBe('storage.timeout');
      const command = update({})(disk, `${mine()}/step/do`);
      await age(disk, '1 hour');
      service.storage.failing = { method: 'size', code: 'storage.timeout', ...(after && { after: true }) };
      expect(await codeOf(command)).toBe('storage.timeout');
      await service.restart();
      expect(await lies(disk.project)).not.toEqual([]);
      await age(disk, '6 minutes');
      await service.restart();
      await until('it has a size again', async () => (await lies(disk.project)).length === 0);
      sizes.push((await service.ask(diskShow, { disk: disk.id, project: disk.project })).sizeBytes);
    }
    expect(sizes).toEqual([4_096, larger]);
  });

  it('is finished by the housekeeping, where it was a removal: a part of it may be gone', async () => {
    const disk = await service.disk();
    await tagged(disk);
    const { id: image } = await service.image({ project: disk.project });
    const [untag, removal] = [`${mine()}/step/do`, `${mine()}/step/do`];
    const removals: [Method, string, Tell][] = [
      ['untag', 'tags', () => service.tell(diskUntag, { ...of(disk), tagId }, untag)],
      ['remove', 'images', () => service.tell(imageDelete, { imageId: image, project: disk.project }, removal)],
    ];

    for (const [method, table, tell] of removals) {
      for (const code of ['storage.timeout', 'storage.in_use'] as const) {
        service.storage.failing = { method, code };
        expect(await codeOf(tell)).toBe(code);
      }
      const [row] = await service.kit.database.query<{ state: string }>(
        `SELECT state FROM ${table} WHERE id = ANY($1)`,
        [[tagId, image]],
      );
      expect(row).toEqual({ state: 'deleting' });
    }
    await service.kit.database.query(`UPDATE tags SET created_at = now() - interval '2 hours' WHERE id = $1`, [tagId]);
    await service.kit.database.query(`UPDATE images SET deleting_since = now() - interval '2 hours' WHERE id = $1`, [
      image,
    ]);
    await service.restart();
    await until('both are gone', async () => (await lies(disk.project)).length === 0);
    await expect(service.ask(imageShow, { image, project: disk.project })).rejects.toMatchObject({
      code: 'image.not_found',
    });
  });
});
