import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identify } from '@m2/storage-daemon';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { freePorts } from '../conformance/free-ports.js';
import { TgtInstance, instanceFiles, type TgtRecord } from './tgt-instance.js';
import { parsePortals } from './tgt-listing.js';
import { stopAllTgtd, TgtPool, type TgtConfig } from './tgt-pool.js';

const portalsOf = async ({ client }: TgtInstance) => parsePortals(await client.call({ mode: 'portal', op: 'show' }));

async function kill({ pid }: { pid: number }): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await vi.waitFor(() => expect(identify(pid)).toBeUndefined());
}

async function vacate(server: Server): Promise<void> {
  server.close();
  await once(server, 'close');
}

describe('TgtPool', () => {
  let stateDir: string;
  let config: TgtConfig;
  const pools: TgtPool[] = [];
  const servers: Server[] = [];

  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'm2-tgtpool-'));
    config = { stateDir, addresses: ['127.0.0.1'], portBase: await freePorts(20), portCount: 20 };
  });

  afterEach(async () => {
    for (const pool of pools.splice(0)) await pool.close();
    for (const server of servers.splice(0)) server.close();
    await stopAllTgtd(stateDir);
    await rm(stateDir, { recursive: true });
  });

  async function open(change: Partial<TgtConfig> = {}): Promise<TgtPool> {
    const pool = await TgtPool.open({ ...config, ...change });
    pools.push(pool);
    return pool;
  }

  async function occupy(port: number, address = '127.0.0.1'): Promise<Server> {
    const server = createServer().listen(port, address);
    servers.push(server);
    await once(server, 'listening');
    return server;
  }

  const records = () =>
    readdirSync(stateDir)
      .filter((name) => name.endsWith('.json'))
      .map((name) => JSON.parse(readFileSync(join(stateDir, name), 'utf8')) as TgtRecord);
  const spares = () => records().filter(({ pool, port }) => pool === null && port !== null);
  it('keeps a spare ahead and gives it to the next pool', async () => {
    const pool = await open();
    await vi.waitFor(() => expect(spares()).toHaveLength(1));
    const [spare] = spares();
    const instance = await pool.claim('a');
    expect(instance.pid).toBe(spare!.pid);
    expect(await pool.claim('a')).toBe(instance);
    await vi.waitFor(() => expect(spares()).toHaveLength(1));
    expect(spares()[0]!.pid).not.toBe(spare!.pid);
  });

  it('starts another one when the spare has died', async () => {
    const pool = await open();
    await vi.waitFor(() => expect(spares()).toHaveLength(1));
    await kill(spares()[0]!);
    expect((await pool.claim('a')).alive).toBe(true);
  });

  it('listens on the port of each address and nowhere else, past ports that are taken', async () => {
    await occupy(config.portBase);
    await occupy(config.portBase + 1, '127.0.0.2');
    const pool = await open({ addresses: ['127.0.0.1', '127.0.0.2', '0:0:0:0:0:0:0:1'] });
    const instance = await pool.claim('a');
    const { portBase } = config;
    expect(instance.port).toBeGreaterThan(portBase + 1);
    expect(await portalsOf(instance)).toHaveLength(3);
    expect(await portalsOf(instance)).toEqual(
      expect.arrayContaining([`127.0.0.1:${instance.port}`, `127.0.0.2:${instance.port}`, `[::1]:${instance.port}`]),
    );
    expect(pool.portals(instance)).toEqual(
      ['127.0.0.1', '127.0.0.2', '::1'].map((address) => ({ address, port: instance.port })),
    );
  });

  it('says so when no port is free or the address is not here, and leaves no process', async () => {
    await occupy(config.portBase);
    const full = await open({ portCount: 1 });
    await expect(full.claim('a')).rejects.toMatchObject({ code: 'target.no_port' });
    await full.close();
    const foreign = await open({ addresses: ['192.0.2.1'] });
    await expect(foreign.claim('a')).rejects.toMatchObject({ code: 'target.no_port' });
    await foreign.close();
    expect(readdirSync(stateDir)).toEqual([]);
  });

  it.each([['0.0.0.0'], ['::'], ['localhost'], ['127.0.0.1,portal=0.0.0.0']])(
    'refuses the portal %s',
    async (address) => {
      await expect(TgtPool.open({ ...config, addresses: [address] })).rejects.toMatchObject({
        code: 'target.invalid_value',
      });
    },
  );

  it('refuses a state directory that is too deep for a socket', async () => {
    await expect(TgtPool.open({ ...config, stateDir: join(stateDir, 'x'.repeat(90)) })).rejects.toMatchObject({
      code: 'target.invalid_value',
      message: expect.stringContaining('too long for a UNIX socket'),
    });
  });

  it('comes back on its port only, and says so while that is taken', async () => {
    const pool = await open();
    const lost = vi.fn<(pool: string) => void>();
    pool.onLost(lost);
    const before = await pool.claim('a');
    await kill(before);
    const server = await occupy(before.port!);
    await expect(pool.claim('a')).rejects.toMatchObject({ code: 'target.no_port' });
    await expect(pool.claim('a')).rejects.toMatchObject({ code: 'target.no_port' });
    await vacate(server);
    const after = await pool.claim('a');
    expect(after.port).toBe(before.port);
    expect(after.pid).not.toBe(before.pid);
    expect(lost.mock.calls).toEqual([['a']]);
  });

  it('ends with its last export, frees its port, and stays while it has a target', async () => {
    const pool = await open();
    const instance = await pool.claim('a');
    const target = { mode: 'target', tid: 1 } as const;
    await instance.client.call({ ...target, op: 'new', params: { targetname: 'iqn.2024-01.org.m2:a' } });
    await pool.release('a');
    expect(pool.find('a')).toBe(instance);
    expect(instance.alive).toBe(true);
    await instance.client.call({ ...target, op: 'delete' });
    const lost = vi.fn<(pool: string) => void>();
    pool.onLost(lost);
    await pool.release('a');
    expect(instance.alive).toBe(false);
    expect(records().map((record) => record.pool)).not.toContain('a');
    await pool.release('a');
    expect(lost).not.toHaveBeenCalled();
    const ports = [(await pool.claim('b')).port, (await pool.claim('c')).port];
    expect(ports).toContain(instance.port);
  });

  it('stopAllTgtd leaves no process and no file, targets or not', async () => {
    const pool = await open();
    const instance = await pool.claim('a');
    const params = { targetname: 'iqn.2024-01.org.m2:a' };
    await instance.client.call({ mode: 'target', op: 'new', tid: 1, params });
    await pool.close();
    await stopAllTgtd(stateDir);
    expect(instance.alive).toBe(false);
    expect(readdirSync(stateDir)).toEqual([]);
    await stopAllTgtd(join(stateDir, 'never-there'));
  });

  describe('after a crash of the service', () => {
    it('takes over spare and pools, and sees the death of one that is not its child', async () => {
      const earlier = await open();
      const a = await earlier.claim('a');
      await vi.waitFor(() => expect(spares()).toHaveLength(1));
      const [spare] = spares();
      await earlier.close();
      const pool = await open();
      expect((await pool.claim('a')).pid).toBe(a.pid);
      expect((await pool.claim('b')).pid).toBe(spare!.pid);
      const lost = vi.fn<(pool: string) => void>();
      pool.onLost(lost);
      process.kill(a.pid, 'SIGKILL');
      await vi.waitFor(() => expect(lost.mock.calls).toEqual([['a']]), { timeout: 20_000 });
    });

    it('keeps the port of one that died meanwhile', async () => {
      const earlier = await open();
      const a = await earlier.claim('a');
      await earlier.close();
      await kill(a);
      const pool = await open();
      const lost = vi.fn<(pool: string) => void>();
      pool.onLost(lost);
      expect((await pool.claim('a')).port).toBe(a.port);
      expect(lost).not.toHaveBeenCalled();
    });

    it('removes what was half made: without portals, without a record', async () => {
      const [one, two] = await Promise.all(
        [3, 4].map((control) => TgtInstance.start(stateDir, control, control === 3 ? 'a' : null, null, () => {})),
      );
      rmSync(instanceFiles(stateDir, 4).record);
      await open();
      await vi.waitFor(() => expect([one!.alive, two!.alive]).toEqual([false, false]));
      expect(readdirSync(stateDir).filter((name) => /\.[34]\b/.test(name))).toEqual([]);
    });

    it('spares a process that has the number of a dead one', async () => {
      const record: TgtRecord = { control: 0, pool: 'a', port: config.portBase, pid: process.pid, identity: 'another' };
      writeFileSync(instanceFiles(stateDir, 0).record, JSON.stringify(record));
      const pool = await open();
      expect((await pool.claim('a')).pid).not.toBe(process.pid);
      expect((await pool.claim('a')).port).toBe(config.portBase);
    });

    it('starts with records that cannot be read', async () => {
      writeFileSync(instanceFiles(stateDir, 0).record, '{"control":');
      const pool = await open();
      expect((await pool.claim('a')).alive).toBe(true);
    });
  });
});
