import type { LabCeph } from '@m2/lab';
import { ownCeph } from '@m2/lab/testing';
import { isAlive, identify } from '@m2/storage-daemon';
import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { DiskTargets, type DiskSpec } from '../exports/disk-targets.js';
import { IMAGE_BYTES, type TestDisks } from '../targets/conformance/fixture.js';
import { freePorts } from '../targets/conformance/free-ports.js';
import { Initiator } from '../targets/conformance/initiator.js';
import { fill, readOut } from '../targets/conformance/tools.js';
import { targetConformance } from '../targets/target.conformance.js';
import { TgtDriver } from '../targets/tgt/tgt-driver.js';
import { tgtHarness } from '../targets/tgt/tgt.fixture.js';
import { Backings } from './backings.js';
import { TestCluster, hang, recover, type TestProject } from './ceph.fixture.js';
import type { RbdBacking } from './rbd-disk.js';

let cluster: TestCluster<LabCeph>;
let project: TestProject;
beforeAll(async () => {
  cluster = await TestCluster.open(ownCeph);
  project = await cluster.project();
});
afterAll(() => cluster?.close());

// The whole suite, including the READ of zero blocks, which with tgt's own RBD backing store ends the target and its neighbours.
targetConformance('tgt on RBD images', (dir) => {
  const tgt = tgtHarness(dir);
  const { conf, user } = cluster.ceph;
  let opened: Promise<Backings> | undefined;
  const backings = () => (opened ??= Backings.open({ directory: join(dir, 'rbd'), ceph: { conf, user } }));
  const shown = new Map<string, { pool: string; disk: RbdBacking }>();
  const disks: TestDisks = {
    direct: true,
    async create(pool) {
      const disk = await cluster.image(project, IMAGE_BYTES);
      const path = await (await backings()).ensureFile(pool, disk);
      shown.set(path, { pool, disk });
      return path;
    },
    async remove(path) {
      const { pool, disk } = shown.get(path)!;
      await (await backings()).ensureNoFile(pool, disk);
    },
    async replace(path) {
      const { pool, disk } = shown.get(path)!;
      await (await backings()).ensureFile(pool, disk);
    },
  };
  return {
    ...tgt,
    disks,
    async stop() {
      await tgt.stop();
      await (await opened)?.stopAll();
      opened = undefined;
    },
  };
});

describe('an export of an RBD image', () => {
  let dir: string;
  let driver: TgtDriver;
  let backings: Backings;
  let targets: DiskTargets;
  const initiators: Initiator[] = [];
  beforeEach(async () => {
    dir = join(cluster.directory, randomUUID().slice(0, 8));
    driver = await TgtDriver.open(
      { stateDir: dir, addresses: ['127.0.0.1'], portBase: await freePorts(20) },
      async () => false,
    );
    const { conf, user } = cluster.ceph;
    backings = await Backings.open({ directory: join(dir, 'rbd'), ceph: { conf, user } });
    targets = new DiskTargets(driver, backings);
  });
  afterEach(async () => {
    for (const initiator of initiators.splice(0)) initiator.close();
    await driver.stopAll();
    await backings.stopAll();
    await rm(dir, { recursive: true });
  });

  async function newSpec(owner = project): Promise<DiskSpec> {
    const id = randomUUID();
    return {
      pool: owner.id,
      iqn: `iqn.2024-01.org.m2:${id}`,
      backing: await cluster.image(owner),
      initiator: `iqn.2024-01.org.m2:node-${id}`,
      chap: { user: id, secret: 'a-secret-of-this-test' },
    };
  }

  async function ensure(spec: DiskSpec) {
    const [portal] = await targets.ensure(spec);
    return { portal: portal!, iqn: spec.iqn, initiator: spec.initiator, chap: spec.chap };
  }

  async function crashDaemon(name: string): Promise<void> {
    const pid = (await cluster.daemons(name)).get(project.id)!;
    const daemon = identify(pid)!;
    process.kill(pid, 'SIGKILL');
    await vi.waitFor(() => expect(isAlive(daemon)).toBe(false));
  }

  it('has all that a node had flushed when the daemon was killed under its writes, and serves again', async () => {
    const spec = await newSpec();
    const login = await ensure(spec);
    const neighbour = await newSpec(await cluster.project());
    const neighbours = await Initiator.login(await ensure(neighbour));
    initiators.push(neighbours);
    const lost = new Promise<string>((resolve) => backings.onLost(resolve));
    const blockBytes = 65_536;
    const flushed: number[] = [];
    const writing = (async () => {
      for (let round = 1; round <= 60; round++) {
        await fill(login, round, round * blockBytes, join(dir, 'secret'));
        flushed.push(round);
      }
    })().catch(() => undefined); // the round in which the death happened
    await vi.waitFor(() => expect(flushed.length).toBeGreaterThan(3), { timeout: 20_000 });
    await crashDaemon(`${dir.slice(cluster.directory.length + 1)}/rbd`);
    expect(await lost).toBe(project.id);
    expect(await ensure(spec)).toEqual(login);
    await writing;
    const initiator = await Initiator.login(login);
    initiators.push(initiator);
    for (const round of flushed) {
      const { status, data } = await initiator.read((round * blockBytes) / 512, 128);
      expect([status, data.equals(Buffer.alloc(blockBytes, round))]).toEqual([0, true]);
    }
    expect((await neighbours.read(0, 1)).status).toBe(0);
  });

  it('is gone with its image closed', async () => {
    const spec = await newSpec();
    const login = await ensure(spec);
    await fill(login, 1, 0, join(dir, 'secret'));
    await targets.ensureNone(spec);
    await cluster.rbd.remove(spec.backing as RbdBacking);
    expect(await driver.observe()).toEqual([]);
    await targets.ensureNone(spec);
  });

  it('waits while the cluster hangs and goes on when it is back; a file of another project is served all the time', async () => {
    const spec = await newSpec();
    const login = await ensure(spec);
    const path = join(dir, 'plain.raw');
    await writeFile(path, Buffer.alloc(IMAGE_BYTES, 3));
    const file: DiskSpec = { ...(await newSpec()), pool: 'files', backing: { type: 'file', path } };
    const onFile = await Initiator.login(await ensure(file));
    const onImage = await Initiator.login(login);
    const another = await newSpec();
    initiators.push(onFile, onImage);
    await hang(cluster.ceph);
    let read: ReturnType<Initiator['read']>;
    try {
      read = onImage.read(0, 8);
      await expect(ensure(another)).rejects.toMatchObject({ code: 'target.no_backing' });
      expect((await onFile.read(0, 8)).data).toEqual(Buffer.alloc(4096, 3));
      expect(await ensure(file)).toMatchObject({ iqn: file.iqn });
      expect((await driver.observe()).map(({ iqn }) => iqn).sort()).toEqual([spec.iqn, file.iqn].sort());
    } finally {
      await recover(cluster.ceph);
    }
    expect(await read).toEqual({ status: 0, data: Buffer.alloc(4096) });
    const later = await vi.waitFor(() => ensure(another), { timeout: 90_000, interval: 100 });
    await readOut(later, join(dir, 'copy.raw'));
  });
});
