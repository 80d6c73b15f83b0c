import type { Operation } from '@m2/contracts';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import type { TestInstallation } from './installation.js';

const run = promisify(execFile);

/** What the services' databases hold. */
interface Records {
  images: { id: string; name: string; state: string; volume: string }[];
  disks: { id: string; state: string; holder: string | null; volume: string }[];
  exports: { disk: string; iqn: string; state: string }[];
  bootConfigs: { provision: string; node: string }[];
  held: { node: string; holder: string }[];
  networked: { node: string; network: string }[];
  provisions: { id: string; state: string }[];
  unfinished: { id: string; kind: string }[];
}

/** Everything that provisions make, in the databases and on the hardware. */
export interface ObservedState extends Records {
  /** Files of the storage: golden images, and all other volumes. */
  goldens: string[];
  volumes: string[];
  /** Leftovers of imports. */
  staging: string[];
  /** Volumes that are marked as attached, and volumes that the storage daemon shows. */
  marked: string[];
  mounted: string[];
  /** Names of the targets of every tgtd. */
  targets: string[];
  /** Nodes that are on. */
  powered: string[];
}

const rows = (columns: string, from: string) =>
  `(SELECT coalesce(json_agg(t), '[]') FROM (SELECT ${columns} FROM ${from}) t)`;

const recordsQuery = `SELECT json_build_object(
  'images', ${rows('id, name, state, volume', 'm2_image.images ORDER BY id')},
  'disks', ${rows('id, state, holder, volume', 'm2_image.disks ORDER BY id')},
  'exports', ${rows('disk, iqn, state', 'm2_iscsi.exports ORDER BY id')},
  'bootConfigs', ${rows('provision, node', 'm2_boot.boot_configs ORDER BY id')},
  'held', ${rows('id AS node, holder', 'm2_hil.nodes WHERE holder IS NOT NULL ORDER BY id')},
  'networked', ${rows('node, network', 'm2_hil.nics WHERE network IS NOT NULL ORDER BY node')},
  'provisions', ${rows('id, state', 'm2_gateway.provisions WHERE ended_at IS NULL ORDER BY id')},
  'unfinished', ${rows('id, kind', 'm2_gateway.operations WHERE ended_at IS NULL ORDER BY id')})`;

export const recordsOf = (installation: TestInstallation): Promise<Records> => sql<Records>(installation, recordsQuery);

export async function observe(installation: TestInstallation): Promise<ObservedState> {
  const { state, lab, nodes } = installation.stage;
  const storage = join(state, 'storage');
  const [records, volumes, staging, marked, mounted, targets, on] = await Promise.all([
    recordsOf(installation),
    readdir(join(storage, 'volumes')),
    readdir(join(storage, 'staging')),
    readdir(join(storage, 'attached')),
    mountsBelow(join(storage, 'attached')),
    targetsOf(join(state, 'targets')),
    Promise.all(lab.nodes.map((node) => node.running())),
  ]);
  return {
    ...records,
    goldens: volumes.filter((name) => name.endsWith('.golden.raw')).sort(),
    volumes: volumes.filter((name) => !name.endsWith('.golden.raw')).sort(),
    staging,
    marked: marked.sort(),
    mounted: mounted.sort(),
    targets: targets.sort(),
    powered: nodes.filter((_, place) => on[place]).map(({ id }) => id),
  };
}

/** Runs a query that returns one JSON value, as the database's administrator. */
export async function sql<T>({ stage: { state } }: TestInstallation, query: string): Promise<T> {
  const password = (await readFile(join(state, 'secrets/database-m2_admin'), 'utf8')).trim();
  const { stdout } = await run('psql', ['-XAtqw', '-h', join(state, 'postgres'), '-U', 'm2_admin', '-c', query, 'm2'], {
    env: { PATH: process.env['PATH'], PGPASSWORD: password },
    // All events of an hour's run, say.
    maxBuffer: 2 ** 30,
  });
  return JSON.parse(stdout) as T;
}

async function mountsBelow(directory: string): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' ')[4] ?? '');
  return mounts.filter((path) => path.startsWith(`${directory}/`)).map((path) => path.slice(directory.length + 1));
}

export interface TgtRecord {
  control: number;
  pid: number;
  pool: string | null;
  port: number | null;
}

/** The tgtd processes of an installation, as iscsi-svc notes them. */
export async function tgtdsOf(directory: string): Promise<TgtRecord[]> {
  const names = (await readdir(directory)).filter((name) => /^tgtd\.\d+\.json$/.test(name));
  return Promise.all(names.map(async (name) => JSON.parse(await readFile(join(directory, name), 'utf8')) as TgtRecord));
}

/** Asks every tgtd itself, with its own tool. */
export async function targetsOf(directory: string): Promise<string[]> {
  const listings = (await tgtdsOf(directory)).map(async ({ control }) => {
    const args = ['--lld', 'iscsi', '--mode', 'target', '--op', 'show', '-C', String(control)];
    const { stdout } = await run('tgtadm', args, {
      env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, TGT_IPC_SOCKET: join(directory, 'tgtd') },
    }).catch(() => ({ stdout: '' }));
    return [...stdout.matchAll(/^Target \d+: (\S+)$/gm)].map(([, iqn]) => iqn as string);
  });
  return (await Promise.all(listings)).flat();
}

/** Expects every part of these provisions exactly once, and no part of any other. */
export async function expectOnly(
  installation: TestInstallation,
  provisions: Operation[],
  state = 'ready',
): Promise<void> {
  const observed = await observe(installation);
  const [golden] = observed.images;
  const parts = provisions.map(({ about }) => {
    const { node = '', provision = '', disk = '' } = about;
    const volume = observed.disks.find(({ id }) => id === disk)?.volume ?? `of disk ${disk}`;
    return { node, provision, disk, volume, iqn: `iqn.2018-10.io.m2:${volume}` };
  });
  const sorted = <T>(list: T[]) => list.map((item) => JSON.stringify(item)).sort();
  expect(sorted(observed.disks)).toEqual(
    sorted(parts.map(({ disk, provision, volume }) => ({ id: disk, state: 'ready', holder: provision, volume }))),
  );
  expect(observed).toMatchObject({
    volumes: parts
      .map(({ volume }) => `${volume}.${golden?.volume}.`)
      .sort()
      .map((start) => expect.stringContaining(start)),
    staging: [],
    marked: parts.map(({ volume }) => volume).sort(),
    mounted: parts.map(({ volume }) => volume).sort(),
    targets: parts.map(({ iqn }) => iqn).sort(),
    unfinished: [],
  });
  expect(sorted(observed.exports)).toEqual(sorted(parts.map(({ disk, iqn }) => ({ disk, iqn, state: 'ready' }))));
  expect(sorted(observed.bootConfigs)).toEqual(sorted(parts.map(({ provision, node }) => ({ provision, node }))));
  expect(sorted(observed.held)).toEqual(sorted(parts.map(({ node, provision }) => ({ node, holder: provision }))));
  expect(sorted(observed.networked)).toEqual(sorted(parts.map(({ node }) => ({ node, network: 'flat' }))));
  expect(sorted(observed.provisions)).toEqual(sorted(parts.map(({ provision }) => ({ id: provision, state }))));
  expect(observed.powered.toSorted()).toEqual(parts.map(({ node }) => node).sort());
}

/** Expects nothing that a provision makes, except for the disks in `kept`. `doubtful`: nodes of which nobody can know whether they are on. */
export async function expectNothing(
  installation: TestInstallation,
  kept: string[] = [],
  doubtful = new Set<string>(),
): Promise<void> {
  const all = await observe(installation);
  const observed = { ...all, powered: all.powered.filter((node) => !doubtful.has(node)) };
  expect(observed.disks.map(({ id, state, holder }) => ({ id, state, holder }))).toEqual(
    kept.toSorted().map((id) => ({ id, state: 'ready', holder: null })),
  );
  expect(observed).toMatchObject({
    goldens: observed.images.map(({ volume }) => `${volume}.golden.raw`).sort(),
    volumes: observed.disks.map(({ volume }) => expect.stringContaining(`${volume}.`)),
    staging: [],
    marked: [],
    mounted: [],
    exports: [],
    targets: [],
    bootConfigs: [],
    held: [],
    networked: [],
    provisions: [],
    powered: [],
    unfinished: [],
  });
}
