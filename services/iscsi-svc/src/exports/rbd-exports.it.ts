import { exportCreate, exportCredentials, exportDelete } from '@m2/contracts';
import { sharedCeph } from '@m2/lab/testing';
import { until } from '@m2/service-kit/testing';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import type { Backings } from '../backings/backings.js';
import { TestCluster } from '../backings/ceph.fixture.js';
import { freePorts } from '../targets/conformance/free-ports.js';
import { Initiator } from '../targets/conformance/initiator.js';
import { TgtDriver } from '../targets/tgt/tgt-driver.js';
import { openIscsi, type TestIscsi } from '../testing/iscsi.js';
import { OrphanWatch } from './orphan-watch.js';

let cluster: TestCluster;
let targets: TgtDriver;
let backings: Backings;
let iscsi: TestIscsi;
beforeAll(async () => {
  cluster = await TestCluster.open(sharedCeph);
  const stateDir = join(cluster.directory, 'tgt');
  targets = await TgtDriver.open(
    { stateDir, addresses: ['127.0.0.1'], portBase: await freePorts(20) },
    async () => false,
  );
  backings = await cluster.backings();
  iscsi = await openIscsi({}, { targets, backings });
});
afterAll(async () => {
  await iscsi?.close();
  await targets?.stopAll();
  await backings?.stopAll();
  await cluster?.close();
});
afterEach(() => void vi.restoreAllMocks());

async function exported() {
  const project = await cluster.project();
  const backing = await cluster.image(project);
  const request = iscsi.request({ project: project.id, backing });
  await iscsi.tell(exportCreate, request);
  const { secret, user, iqn, portals } = await iscsi.ask(exportCredentials, request);
  const login = { portal: portals[0]!, iqn, initiator: request.initiator, chap: { user, secret } };
  return { ...request, backing, login };
}

const serves = async ({ login }: Awaited<ReturnType<typeof exported>>) => {
  const initiator = await Initiator.login(login);
  try {
    return (await initiator.read(0, 8)).status === 0;
  } finally {
    initiator.close();
  }
};

it('a disk in RBD is exported, and after the delete its volume can be removed', async () => {
  const disk = await exported();
  expect(await serves(disk)).toBe(true);
  await iscsi.tell(exportDelete, disk);
  await cluster.rbd.remove(disk.backing);
});

it('a storage daemon that dies gets its disks and their targets back, and nobody else notices', async () => {
  const [mine, other] = [await exported(), await exported()];
  process.kill((await cluster.daemons()).get(mine.project)!, 'SIGKILL');
  await until('it is told of', async () => (await iscsi.events(mine.exportId)).includes('iscsi.export.restored'));
  expect(await serves(mine)).toBe(true);
  expect(await serves(other)).toBe(true);
  expect(await iscsi.events(other.exportId)).toEqual(['iscsi.export.created']);
});

it('an image that no export explains is closed, when it has stayed open for a while', async () => {
  const project = await cluster.project();
  const [image, kept] = [await cluster.image(project), await exported()];
  const path = await backings.ensureFile(project.id, image);
  // Seen once by a round, and much later by another.
  const seen = vi.spyOn(backings, 'observe');
  await until('it was looked at', () => seen.mock.calls.filter(([pool]) => pool === project.id).length > 1);
  vi.spyOn(OrphanWatch.prototype, 'now').mockImplementation(() => performance.now() + 121_000);
  await until('its daemon ended', async () => !(await cluster.daemons()).has(project.id));
  vi.restoreAllMocks();
  await expect(rm(path)).rejects.toMatchObject({ code: 'ENOENT' });
  await cluster.rbd.remove(image);
  expect(await serves(kept)).toBe(true);
});
