import type { Operation } from '@m2/contracts';
import { imageObjects, imagesIn, type LabCeph } from '@m2/lab';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import type { TestInstallation } from '../installation.js';
import { recordsOf, sql, targetsOf } from '../observed-state.js';

const run = promisify(execFile);

/** A namespace in the pool of images for volumes that are not M2's. */
export const foreignNamespace = 'vms';

export const cephOf = ({ stage }: TestInstallation): LabCeph => stage.ceph!;

/** Runs `rbd` as the administrator, without M2. */
export async function rbd(installation: TestInstallation, ...args: string[]): Promise<string> {
  return (await run('rbd', ['--conf', cephOf(installation).adminConf, ...args], { timeout: 60_000 })).stdout;
}

/** Everything that images and disks consist of: in the databases, in Ceph, in the targets, and what M2's own check finds. */
export async function observeCeph(installation: TestInstallation) {
  const ceph = cephOf(installation);
  const [records, others, images, objects, targets, daemons, check] = await Promise.all([
    recordsOf(installation),
    sql<object>(
      installation,
      `SELECT json_build_object('tags', (SELECT count(*) FROM m2_image.tags), 'former', (SELECT count(*) FROM m2_image.former_volumes),
         'exporting', (SELECT count(*) FROM m2_image.image_exports WHERE state = 'running'))`,
    ),
    imagesIn(ceph),
    imageObjects(ceph),
    targetsOf(join(installation.stage.state, 'targets')),
    storageDaemonsOf(installation),
    installation.client.call('storageCheck'),
  ]);
  return { ...records, ...others, inCeph: images, objects, targets, daemons, findings: check.items };
}
export type ObservedCeph = Awaited<ReturnType<typeof observeCeph>>;

/** Expects that nothing was added or removed. Polls, since the OSD deletes removed snapshots in the background. */
export async function expectAsBefore(installation: TestInstallation, before: ObservedCeph): Promise<void> {
  await expect.poll(() => observeCeph(installation), { timeout: 60_000 }).toEqual(before);
}

/** How an operation ended: `succeeded`, or the code of its error. */
export const outcomeOf = ({ state, error }: Operation): string => (state === 'failed' ? (error?.code ?? '') : state);

/** The storage daemons of iscsi-svc, one for each project that has a disk open. */
export async function storageDaemonsOf({ stage }: TestInstallation): Promise<number[]> {
  const directory = join(stage.state, 'targets/rbd');
  const names = await readdir(directory).catch(() => [] as string[]);
  const pids = names.map(async (name) => {
    const record = await readFile(join(directory, name, 'daemon.json'), 'utf8').catch(() => undefined);
    return record ? [(JSON.parse(record) as { pid: number }).pid] : [];
  });
  return (await Promise.all(pids)).flat();
}
