import type { Disk, Operation } from '@m2/contracts';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually, type TestInstallation } from '../installation.js';
import { observe, sql } from '../observed-state.js';
import { toldAndWritten } from '../events.js';
import { comingsAndGoings } from './comings.js';
import { same } from './same.js';
import { type Tenant, wrongLists } from './tenants.js';

interface Told {
  id: string;
  state: string;
  types: string[];
}

/** Errors that say that M2 itself is wrong, whatever was broken. */
const bugs = new Set(['internal', 'fence.stale']);

/** Lets whoever waits for a person go on, until all operations have ended. Returns those that do not. */
export async function untilAllEnded(installation: TestInstallation, forMs: number): Promise<Operation[]> {
  const { impatient } = installation;
  let open: Operation[] = [];
  await eventually(
    'the end of all operations',
    async () => {
      open = [];
      for (const state of ['running', 'undoing', 'needs_attention'])
        open.push(...(await impatient.list('operationList', { query: { state } })).items);
      for (const { id, state } of open)
        if (state === 'needs_attention') await impatient.call('operationResume', { params: { id } }).catch(() => {});
      for (const operation of open) await makeWay(installation, operation);
      return open.length === 0 ? true : undefined;
    },
    forMs,
  ).catch(() => {});
  return open;
}

/**
 * Somebody may use a disk before the operation that made it has ended, and then that cannot take it back. A person removes what is in its way,
 * which the error tells.
 */
async function makeWay({ impatient }: TestInstallation, { project, steps }: Operation): Promise<void> {
  const end = (id: string) => impatient.call('provisionDelete', { params: { project, id } }).catch(() => {});
  for (const { state, error } of steps) {
    if (state !== 'undoing') continue;
    const [, holder] = /held by provision (\S+)/.exec(error?.detail ?? '') ?? [];
    if (error?.code === 'disk.in_use' && holder) await end(holder);
    if (error?.code !== 'tag.in_use') continue;
    const forks = error.detail.slice(error.detail.indexOf(':')).matchAll(/disk ([a-z0-9-]+)/g);
    for (const [, disk] of forks) {
      const params = { project, disk: disk! };
      const found = await impatient.call('diskShow', { params }).catch(() => undefined);
      if (found?.holder) await end(found.holder);
      else await impatient.call('diskDelete', { params, query: { purge: 'true' } }).catch(() => {});
    }
  }
}

/**
 * What must be so when all is quiet, whatever was asked for and whatever died. Returns what is not so.
 * `accepted`: the operations that somebody was promised; `doubtful`: nodes of which nobody can know whether they are on.
 */
export async function brokenInvariants(
  installation: TestInstallation,
  accepted: string[],
  doubtful: Set<string>,
  tenants: Tenant[],
): Promise<string[]> {
  return [
    ...(await hardware(installation, doubtful)),
    ...(await records(
      installation,
      tenants.map(({ project }) => project),
    )),
    ...(await operations(installation, accepted)),
    ...(await comingsAndGoings(installation)),
    ...(await events(installation)),
    ...(await wrongLists(installation, tenants)),
  ];
}

/** Provisions, and every part of each, once; and no part of any other. */
async function hardware(installation: TestInstallation, doubtful: Set<string>): Promise<string[]> {
  const observed = await observe(installation);
  const provisions = await sql<{ id: string; node: string; disk: string; state: string; network: string }[]>(
    installation,
    `SELECT coalesce(json_agg(p), '[]') FROM (SELECT id, node, disk, state, network FROM m2_gateway.provisions WHERE ended_at IS NULL) p`,
  );
  const volumeOf = new Map(observed.disks.map(({ id, volume }) => [id, volume]));
  const volumes = provisions.map(({ disk }) => volumeOf.get(disk) ?? `of disk ${disk}`);
  const iqn = (volume: string) => `iqn.2018-10.io.m2:${volume}`;
  const certain = (nodes: string[]) => nodes.filter((node) => !doubtful.has(node));
  return [
    ...provisions.filter(({ state }) => state !== 'ready').map(({ id, state }) => `provision ${id} is ${state}`),
    ...same(
      'nodes that are held',
      observed.held,
      provisions.map(({ node, id }) => ({ node, holder: id })),
    ),
    ...same(
      'disks that are held',
      observed.disks.filter(({ holder }) => holder).map(({ id, holder }) => ({ id, holder })),
      provisions.map(({ disk, id }) => ({ id: disk, holder: id })),
    ),
    ...same(
      'exports',
      observed.exports,
      provisions.map(({ disk }, at) => ({ disk, iqn: iqn(volumes[at]!), state: 'ready' })),
    ),
    ...same(
      'boots',
      observed.bootConfigs,
      provisions.map(({ id, node }) => ({ provision: id, node })),
    ),
    ...same(
      'nics in a network',
      observed.networked,
      provisions.map(({ node, network }) => ({ node, network })),
    ),
    ...same('targets', observed.targets, volumes.map(iqn)),
    ...same('attached volumes', observed.marked, volumes),
    ...same('mounted volumes', observed.mounted, volumes),
    ...same('nodes that are on', certain(observed.powered), certain(provisions.map(({ node }) => node))),
    ...same('leftovers of imports', observed.staging, []),
  ];
}

/** What the services have on record is what there is in the storage, and what is counted. */
async function records(installation: TestInstallation, projects: string[]): Promise<string[]> {
  const { client } = installation;
  const { items: findings } = await client.call('storageCheck');
  const unfinished = await sql<string[]>(
    installation,
    `SELECT coalesce(json_agg(what), '[]') FROM (
       SELECT 'disk ' || name || ' ' || id || ' is ' || state AS what FROM m2_image.disks WHERE state NOT IN ('ready', 'trashed')
       UNION ALL SELECT 'disk ' || name || ' ' || id || ' still grows' FROM m2_image.disks WHERE grows_to IS NOT NULL
       UNION ALL SELECT 'image ' || name || ' ' || id || ' is ' || state FROM m2_image.images WHERE state <> 'ready'
       UNION ALL SELECT 'tag ' || t.name || ' ' || t.id || ' of ' || d.name || ' ' || d.id || ' is ' || t.state FROM m2_image.tags t JOIN m2_image.disks d ON d.id = t.disk WHERE t.state <> 'ready'
       UNION ALL SELECT 'a rollback of disk ' || d.name || ' ' || d.id || ' is pending' FROM m2_image.former_volumes f JOIN m2_image.disks d ON d.id = f.disk WHERE f.pending) w`,
  );
  const disks: Disk[] = [];
  const quotas: string[] = [];
  for (const project of projects) {
    const params = { project };
    const present = (await client.list('diskList', { params })).items;
    const trashed = (await client.list('diskList', { params, query: { trashed: 'true' } })).items;
    const visible = (await client.list('imageList', { params })).items;
    const images = visible.filter((image) => image.project === project);
    const { used, limits } = await client.call('quotaShow', { params });
    const own = [...present, ...trashed];
    const bytes = [...own, ...images].reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0);
    quotas.push(...same(`the quota of ${project}`, [used], [{ bytes, disks: own.length, images: images.length }]));
    for (const what of ['bytes', 'disks', 'images'] as const)
      if (used[what] > (limits[what] ?? Infinity))
        quotas.push(`${project} has ${used[what]} ${what}, and may have ${limits[what]}`);
    disks.push(...own);
  }
  return [
    ...findings.map(({ kind, volume, explanation }) => `the storage differs: ${kind} ${volume}: ${explanation}`),
    ...unfinished,
    ...quotas,
    ...same(
      'sizes',
      await sizes(installation, disks),
      disks.map(({ id, volume, sizeBytes }) => ({ id, volume, size: sizeBytes })),
    ),
  ];
}

async function sizes({ stage }: TestInstallation, disks: { id: string; volume: string }[]) {
  const directory = join(stage.state, 'storage/volumes');
  const files = await readdir(directory);
  return Promise.all(
    disks.map(async ({ id, volume }) => ({ id, volume, size: await sizeOf(directory, files, volume) })),
  );
}

/** The size of a disk's volume, as its file says it: the one with the greatest number is the disk. */
async function sizeOf(directory: string, files: string[], volume: string): Promise<number | undefined> {
  const file = new RegExp(`^${volume}\\.(?:\\w+-\\d+|\\w+img\\d+|flat)\\.(?:(\\d+)\\.)?(raw|qcow2)$`);
  const found = files.flatMap((name) => {
    const match = file.exec(name);
    return match ? [{ name, number: Number(match[1] ?? 0), format: match[2] }] : [];
  });
  const last = found.toSorted((a, b) => b.number - a.number)[0];
  if (!last) return undefined;
  const path = join(directory, last.name);
  if (last.format === 'raw') return (await stat(path)).size;
  const handle = await open(path);
  try {
    // The header of qcow2: the virtual size is the eight bytes at 24.
    const { buffer } = await handle.read(Buffer.alloc(8), 0, 8, 24);
    return Number(buffer.readBigUInt64BE());
  } finally {
    await handle.close();
  }
}

/** Each operation that was promised is there, and has ended; none of them by a bug. Each was told of as it went. */
async function operations(installation: TestInstallation, accepted: string[]): Promise<string[]> {
  const rows = await sql<(Told & { kind: string; error: { code: string; detail: string } | null; ended: boolean })[]>(
    installation,
    `SELECT coalesce(json_agg(t), '[]') FROM (
       SELECT o.id, o.kind, o.state, o.error, o.ended_at IS NOT NULL AS ended,
         (SELECT coalesce(json_agg(replace(b.type, 'gateway.operation.', '') ORDER BY b.sequence), '[]')
          FROM m2_gateway.m2_outbox b WHERE b.entity = o.id::text AND b.type LIKE 'gateway.operation.%') AS types
       FROM m2_gateway.operations o) t`,
  );
  const known = new Set(rows.map(({ id }) => id));
  const isInOrder = ({ types, state }: Told) => {
    const turns = types.slice(1, -1);
    const alternate = turns.every((type, at) => type === (at % 2 === 0 ? 'attention-needed' : 'resumed'));
    return types[0] === 'started' && types.at(-1) === 'ended' && (alternate || state === 'abandoned');
  };
  return [
    ...accepted.filter((id) => !known.has(id)).map((id) => `operation ${id} was accepted, and is not there`),
    ...rows.filter(({ ended }) => !ended).map(({ id, kind, state }) => `${kind} ${id} is ${state}`),
    ...rows
      .filter((row) => row.ended && !isInOrder(row))
      .map(({ id, kind, types }) => `${kind} ${id} was told of as ${types.join(', ')}`),
    ...rows
      .filter(({ error }) => error && bugs.has(error.code))
      .map(({ id, kind, error }) => `${kind} ${id} failed by a bug: ${error!.code}: ${error!.detail}`),
  ];
}

/** What the services wrote is what the API tells, each once. */
async function events(installation: TestInstallation): Promise<string[]> {
  const { written, told } = await toldAndWritten(installation);
  return same('events at the API', told, written);
}
