import { setTimeout as pause } from 'node:timers/promises';
import type { Stage } from '@m2/cli';
import { importImage, succeeded } from './operations.js';
import type { LabCeph } from '@m2/lab';
import type { Operation } from '@m2/contracts';

const bootBytes = 10 * 2 ** 30;

/** What a node reads from Ceph until its operating system has phoned home, booted from a disk of 10 GiB. */
export async function bootReads(
  stage: Stage,
  ceph: LabCeph,
): Promise<{ bootReadBytes: number; bootImageBytes: number }> {
  const params = { project: stage.project };
  const ended = (operation: Operation) => succeeded(stage, operation);
  await importImage(stage, 'boot', stage.image.path);
  const disk = { name: 'boot', image: 'boot', sizeBytes: bootBytes };
  await ended(await stage.client.call('diskCreate', { params, body: disk }));
  const before = await bytesRead(ceph);
  const body = { node: stage.nodes[0]!.name, disk: 'boot', waitFor: 'booted' as const };
  const about = await ended(await stage.client.call('provisionCreate', { params, body }));
  const bootReadBytes = (await bytesRead(ceph)) - before;
  await ended(await stage.client.call('provisionDelete', { params: { ...params, id: about['provision']! } }));
  return { bootReadBytes, bootImageBytes: bootBytes };
}

/** What the manager counts comes in every few seconds; it is all there when it changes no more. */
const settleMs = 12_000;

/** All that clients have read from the pools so far, as the manager counts it. */
async function bytesRead(ceph: LabCeph): Promise<number> {
  for (let last = await counted(ceph); ;) {
    await pause(settleMs);
    const now = await counted(ceph);
    if (now === last) return now;
    last = now;
  }
}

async function counted(ceph: LabCeph): Promise<number> {
  const { pools } = JSON.parse(await ceph.ceph('df', 'detail', '--format', 'json')) as {
    pools: { stats: { rd_bytes: number } }[];
  };
  return pools.reduce((sum, { stats }) => sum + stats.rd_bytes, 0);
}
