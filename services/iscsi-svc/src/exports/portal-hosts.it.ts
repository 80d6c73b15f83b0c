import { exportCreate, exportCredentials, exportDelete, exportList } from '@m2/contracts';
import { sharedCeph } from '@m2/lab/testing';
import { until } from '@m2/service-kit/testing';
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { Backings } from '../backings/backings.js';
import { TestCluster } from '../backings/ceph.fixture.js';
import { freePorts } from '../targets/conformance/free-ports.js';
import { Initiator } from '../targets/conformance/initiator.js';
import { fill } from '../targets/conformance/tools.js';
import { TgtDriver } from '../targets/tgt/tgt-driver.js';
import type { TgtRecord } from '../targets/tgt/tgt-instance.js';
import { type Hardware, openIscsi, type TestIscsi } from '../testing/iscsi.js';
import { OrphanWatch } from './orphan-watch.js';

/** A machine with its own targets and storage daemons, which go on while the service on it is stopped. */
class Host {
  readonly directory: string;
  private hardware!: Hardware & { targets: TgtDriver };
  private readonly portBase = freePorts(20);

  constructor(
    readonly name: string,
    private readonly address = '127.0.0.1',
  ) {
    this.directory = join(cluster.directory, name);
  }

  async open(): Promise<Hardware> {
    const portBase = await this.portBase;
    const { conf, user } = cluster.ceph;
    const [targets, backings] = await Promise.all([
      TgtDriver.open(
        { stateDir: this.directory, addresses: [this.address], portBase, portCount: 20 },
        async () => false,
      ),
      Backings.open({ directory: join(this.directory, 'rbd'), ceph: { conf, user } }),
    ]);
    return (this.hardware = { targets, backings });
  }

  get settings() {
    return { M2_PORTAL_HOST: this.name, M2_CEPH_CONF: cluster.ceph.conf, M2_PORTAL_ADVERTISED: '127.0.0.1' };
  }

  /** The names of the targets on the machine. */
  async targets(): Promise<string[]> {
    return (await this.hardware.targets.observe()).map(({ iqn }) => iqn);
  }

  portOf(project: string): number {
    const records = readdirSync(this.directory).filter((name) => /^tgtd\.\d+\.json$/.test(name));
    const found = records.map((name) => JSON.parse(readFileSync(join(this.directory, name), 'utf8')) as TgtRecord);
    return found.find(({ pool }) => pool === project)!.port!;
  }

  async destroy(): Promise<void> {
    await this.hardware.targets.stopAll();
    await this.hardware.backings.stopAll();
  }
}

let cluster: TestCluster;
let [a, b]: Host[] = [];
let iscsi: TestIscsi;
let stopB: () => Promise<void>;
beforeAll(async () => {
  cluster = await TestCluster.open(sharedCeph);
  [a, b] = [new Host('a'), new Host('b')];
  iscsi = await openIscsi(a.settings, await a.open());
  stopB = await iscsi.replica(b.settings, await b.open());
});
afterEach(() => void vi.restoreAllMocks());
afterAll(async () => {
  await iscsi?.close();
  for (const host of [a, b]) await host?.destroy();
  await cluster?.close();
});

async function exported() {
  const project = await cluster.project();
  const backing = await cluster.image(project);
  const request = iscsi.request({ project: project.id, backing });
  const made = await iscsi.tell(exportCreate, request);
  return { ...request, backing, made };
}
type Exported = Awaited<ReturnType<typeof exported>>;

async function logins(of: Exported) {
  const { portals, iqn, initiator, user, secret } = await iscsi.ask(exportCredentials, of);
  return portals.map((portal) => ({ portal, iqn, initiator, chap: { user, secret } }));
}

async function firstByte(login: Awaited<ReturnType<typeof logins>>[number]): Promise<number> {
  const initiator = await Initiator.login(login);
  try {
    return (await initiator.read(0, 1)).data[0]!;
  } finally {
    initiator.close();
  }
}

it('an export of an image has a portal on every host, and each shows the same disk to the same initiator', async () => {
  const disk = await exported();
  expect(disk.made.portals).toHaveLength(2);
  expect((await iscsi.ask(exportList, { project: disk.project })).items[0]!.portals).toEqual(disk.made.portals);
  const [one, other] = await logins(disk);
  expect(one!.portal.port).not.toBe(other!.portal.port);
  await fill(one!, 0x11, 0, join(cluster.directory, 'secret'));
  expect(await firstByte(other!)).toBe(0x11);
  await fill(other!, 0x22, 0, join(cluster.directory, 'secret'));
  expect(await firstByte(one!)).toBe(0x22);
});

it('is gone from every host when it is deleted, and the volume can be removed', async () => {
  const disk = await exported();
  await iscsi.tell(exportDelete, disk);
  expect([...(await a!.targets()), ...(await b!.targets())]).not.toContain(disk.made.iqn);
  await cluster.rbd.remove(disk.backing);
});

it('is exported by the others when a host cannot, also when that is the one that is asked', async () => {
  // An address that the machine does not have (RFC 5737).
  const crippled = new Host('crippled', '192.0.2.1');
  const stop = await iscsi.replica(crippled.settings, await crippled.open());
  try {
    const disks: Exported[] = [];
    // NATS chooses which replica is asked; in the end it is the one that cannot.
    const wasAsked = () =>
      iscsi.log.some((line) => line.includes('this host could not export the disk; other hosts do'));
    while (!wasAsked()) disks.push(...(await Promise.all(Array.from({ length: 4 }, exported))));
    for (const disk of disks) await until('the others export it', async () => (await logins(disk)).length === 2);
    for (const disk of disks) await iscsi.tell(exportDelete, disk);
    const left = new Set((await Promise.all([a!, b!, crippled].map((host) => host.targets()))).flat());
    expect(disks.filter(({ made }) => left.has(made.iqn))).toEqual([]);
  } finally {
    await stop();
    await crippled.destroy();
  }
});

it('an export of a file is on one host', async () => {
  const path = join(cluster.directory, 'plain.raw');
  await writeFile(path, Buffer.alloc(1024 * 1024));
  const made = await iscsi.tell(exportCreate, iscsi.request({ backing: { type: 'file', path } }));
  expect(made.portals).toHaveLength(1);
  const on = await Promise.all([a!, b!].map(async (host) => (await host.targets()).includes(made.iqn)));
  expect(on.filter(Boolean)).toHaveLength(1);
});

it('does not wait for ever for a host that died without a word', async () => {
  const { database } = iscsi.kit;
  await database.query(`INSERT INTO portal_hosts VALUES ('dead', now())`);
  const disk = await exported();
  expect(disk.made.portals).toHaveLength(2);
  await database.query(`INSERT INTO export_portals VALUES ($1, 'dead', '[]')`, [disk.exportId]);
  const [seen, deleting] = [`UPDATE portal_hosts SET seen_at = $1 WHERE host = 'dead'`, Promise.withResolvers<void>()];
  await database.query(seen, [new Date()]);
  iscsi.tell(exportDelete, disk).then(() => deleting.resolve(), deleting.reject);
  const left = () =>
    database.query<{ host: string }>('SELECT host FROM export_portals WHERE export = $1', [disk.exportId]);
  await until('only the dead host is waited for', async () => (await left()).length === 1);
  await database.query(seen, [new Date(0)]);
  await deleting.promise;
  expect(await left()).toEqual([]);
  await cluster.rbd.remove(disk.backing);
});

it('waits for a host whose service is stopped when nobody saw the node off: it could write through that one', async () => {
  const disk = await exported();
  await stopB();
  let isDeleted = false;
  const deleting = iscsi.tell(exportDelete, { ...disk, nodeSeenOff: false }).then(() => (isDeleted = true));
  await until('its own target is gone', async () => !(await a!.targets()).includes(disk.made.iqn));
  expect(await b!.targets()).toContain(disk.made.iqn);
  expect(isDeleted).toBe(false);
  stopB = await iscsi.replica(b!.settings, await b!.open());
  await deleting;
  expect(await b!.targets()).not.toContain(disk.made.iqn);
  await cluster.rbd.remove(disk.backing);
});

it('does without a host whose service is stopped, and that host makes up for it when it is back', async () => {
  const [kept, removed] = [await exported(), await exported()];
  await stopB();
  const alone = await exported();
  expect(alone.made.portals).toHaveLength(1);
  // Its target goes on, but the one of a living host is tried first.
  const [portOfA, portOfB] = [a, b].map((host) => host!.portOf(kept.project));
  expect((await logins(kept)).map(({ portal }) => portal.port)).toEqual([portOfA, portOfB]);
  expect(await firstByte((await logins(kept))[1]!)).toBe(0);
  await iscsi.tell(exportDelete, removed);
  expect(await a!.targets()).not.toContain(removed.made.iqn);

  stopB = await iscsi.replica(b!.settings, await b!.open());
  await until('it has a target of what was exported meanwhile', async () =>
    (await b!.targets()).includes(alone.made.iqn),
  );
  await until('its portal is known', async () => (await logins(alone)).length === 2);
  expect(await firstByte((await logins(alone))[1]!)).toBe(0);
  expect(await b!.targets()).toContain(removed.made.iqn);
  vi.spyOn(OrphanWatch.prototype, 'now').mockImplementation(() => performance.now() + 121_000);
  await until('what was deleted meanwhile is gone', async () => !(await b!.targets()).includes(removed.made.iqn));
  await until('its volume can be removed', async () =>
    cluster.rbd.remove(removed.backing).then(
      () => true,
      () => false,
    ),
  );
  expect(await b!.targets()).toContain(kept.made.iqn);
});
