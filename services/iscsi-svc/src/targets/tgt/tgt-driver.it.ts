import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { freePorts } from '../conformance/free-ports.js';
import { FuseDisk } from '../conformance/fuse-disk.js';
import { Initiator } from '../conformance/initiator.js';
import { fill } from '../conformance/tools.js';
import { targetConformance } from '../target.conformance.js';
import type { ExportSpec } from '../target.port.js';
import { TgtClient } from './tgt-client.js';
import { TgtDriver } from './tgt-driver.js';
import { recordOf, tgtHarness } from './tgt.fixture.js';

targetConformance('tgt', tgtHarness);

describe('tgt on a FUSE file', () => {
  const undo: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const step of undo.splice(0).toReversed()) await step();
  });

  async function setUp() {
    const dir = await mkdtemp(join(tmpdir(), 'm2-target-'));
    undo.push(() => rm(dir, { recursive: true, force: true }));
    const disk = await FuseDisk.create(join(dir, 'disk.qcow2'), join(dir, 'disk.raw'), 64 * 1024 * 1024);
    undo.push(() => disk.crash());
    const stateDir = join(dir, 'tgt');
    const driver = await TgtDriver.open(
      { stateDir, addresses: ['127.0.0.1'], portBase: await freePorts(20) },
      async () => false,
    );
    undo.push(() => driver.stopAll());
    const spec: ExportSpec = {
      pool: 'tenant',
      iqn: 'iqn.2024-01.org.m2:disk',
      backing: { type: 'file', path: disk.path },
      initiator: 'iqn.2024-01.org.m2:node',
      chap: { user: 'node', secret: 'a-secret-of-this-test' },
    };
    const { portals } = await driver.ensureExport(spec);
    return { dir, disk, driver, spec, login: { portal: portals[0]!, ...spec } };
  }

  it('has on the disk what the node has flushed, when the daemon is killed', async () => {
    const { dir, disk, login } = await setUp();
    await fill(login, 0x5a, 1024 * 1024, join(dir, 'secret'));
    await disk.crash();
    expect(await disk.holds(0x5a, 1024 * 1024)).toBe(true);
  });

  it('opens the file anew after its daemon came back', async () => {
    const { disk, driver, spec, login } = await setUp();
    await disk.crash();
    await disk.start();
    expect(await driver.observe()).toMatchObject([{ iqn: spec.iqn, backingPath: null }]);
    await driver.ensureExport(spec);
    const initiator = await Initiator.login(login);
    undo.push(async () => initiator.close());
    expect((await initiator.read(0, 8)).status).toBe(0);
    expect(await driver.observe()).toMatchObject([{ iqn: spec.iqn, backingPath: spec.backing.path }]);
  });
});

/** A listing has all targets of the pool, and costs what they all cost. */
describe('an export among many', () => {
  const undo: (() => Promise<void>)[] = [];
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const step of undo.splice(0).toReversed()) await step();
  });

  it('is created and removed without a listing of the pool, also after a restart that has looked once', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'm2-target-'));
    undo.push(() => rm(dir, { recursive: true, force: true }));
    const config = { stateDir: join(dir, 'tgt'), addresses: ['127.0.0.1'], portBase: await freePorts(20) };
    let driver = await TgtDriver.open(config, async () => false);
    undo.push(() => driver.stopAll());
    const requests = vi.spyOn(TgtClient.prototype, 'call');
    const listings = () => requests.mock.calls.filter(([{ mode, op }]) => mode === 'target' && op === 'show').length;
    const specs = await Promise.all(
      ['1', '2', '3', '4'].map(async (name): Promise<ExportSpec> => {
        const path = join(dir, name);
        await writeFile(path, Buffer.alloc(2 ** 20));
        const iqn = `iqn.2024-01.org.m2:disk${name}`;
        const chap = { user: `node${name}`, secret: 'a-secret-of-this-test' };
        return { pool: 'tenant', iqn, backing: { type: 'file', path }, initiator: 'iqn.2024-01.org.m2:node', chap };
      }),
    );
    for (const spec of specs) await driver.ensureExport(spec);
    await driver.ensureNoExport('tenant', specs[0]!.iqn);
    expect(listings()).toBe(0);

    await driver.close();
    driver = await TgtDriver.open(config, async () => false);
    expect(await driver.observe()).toHaveLength(3);
    expect(listings()).toBe(1);
    await driver.ensureNoExport('tenant', specs[1]!.iqn);
    expect(listings()).toBe(1);

    // Somebody replaced it by hand: then a look finds what has its name now.
    const client = new TgtClient(join(config.stateDir, `tgtd.${recordOf(config.stateDir, 'tenant').control}`));
    const third = (await driver.observe()).find(({ iqn }) => iqn === specs[2]!.iqn);
    await client.call({ mode: 'target', op: 'delete', tid: third!.tid });
    await client.call({ mode: 'target', op: 'new', tid: 4711, params: { targetname: specs[2]!.iqn } });
    await driver.ensureNoExport('tenant', specs[2]!.iqn);
    expect((await driver.observe()).map(({ iqn }) => iqn)).toEqual([specs[3]!.iqn]);
  });
});
