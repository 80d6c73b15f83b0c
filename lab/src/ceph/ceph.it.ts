import { once } from 'node:events';
import { mkdir, mkdtemp, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processesWith } from '../process/owned-process.js';
import { run } from '../process/run.js';
import { cephDaemons, type LabCeph, startCeph, stopCeph } from './ceph.js';
import { dataArgument } from './daemon.js';
import { layoutOf } from './layout.js';

let parent: string;
let directory: string;
let ceph: LabCeph;

/** A client's program, as the user that the services are. */
const asUser = (program: string, ...args: string[]) =>
  run(program, ['--conf', ceph.conf, '--id', ceph.user, ...args], { deadlineMs: 20_000 });
const rbd = (...args: string[]) => asUser('rbd', ...args);
const volumes = async (pool: string) => JSON.parse(await rbd('ls', '--format', 'json', pool)) as string[];
const running = async () => (await cephDaemons(directory)).filter(({ pid }) => pid).map(({ name }) => name);

beforeAll(async () => {
  parent = await realpath(await mkdtemp(join(tmpdir(), 'm2-ceph-')));
  // Deeper than a socket's path may be long.
  directory = join(parent, 'a-directory-with-a-long-name'.repeat(4), 'ceph');
  // Both get the same one.
  [ceph] = await Promise.all([startCeph({ directory }), startCeph({ directory })]);
});
afterAll(async () => {
  await stopCeph(directory);
  await rm(parent, { recursive: true, force: true });
});

describe('a cluster of the lab', () => {
  it('is there at once for whoever asks again', async () => {
    const before = await cephDaemons(directory);
    expect(await startCeph({ directory })).toMatchObject({ conf: ceph.conf });
    expect(before.map(({ name }) => name)).toEqual(['mon', 'osd', 'mgr']);
    expect(await cephDaemons(directory)).toEqual(before);
  });

  it('becomes active and clean, and well', async () => {
    await expect.poll(() => ceph.ceph('pg', 'stat'), { timeout: 30_000 }).toMatch(/^(\d+) pgs: \1 active\+clean;/);
    await expect.poll(() => ceph.ceph('health'), { timeout: 30_000 }).toBe('HEALTH_OK\n');
  });

  it('makes clones across pools and namespaces', async () => {
    const { imagePool, diskPool } = ceph;
    await rbd('create', '--size', '8M', `${imagePool}/golden`);
    await rbd('snap', 'create', `${imagePool}/golden@s`);
    await rbd('namespace', 'create', `${diskPool}/tenant`);
    await rbd('clone', `${imagePool}/golden@s`, `${diskPool}/tenant/disk`);
    expect(await volumes(imagePool)).toEqual(['golden']);
    expect(await volumes(`${diskPool}/tenant`)).toEqual(['disk']);
    await rbd('rm', '--no-progress', `${diskPool}/tenant/disk`);
    await rbd('namespace', 'rm', `${diskPool}/tenant`);
  });

  it('keeps its data over a stop and a start, on the same port', async () => {
    const before = await running();
    await rbd('create', '--size', '8M', `${ceph.diskPool}/kept`);
    const address = await ceph.ceph('mon', 'dump');
    await ceph.stop();
    expect(before).toEqual(['mon', 'osd', 'mgr']);
    expect(await running()).toEqual([]);
    ceph = await startCeph({ directory });
    expect(await ceph.ceph('mon', 'dump')).toBe(address);
    expect(await volumes(ceph.diskPool)).toContain('kept');
  });

  it('says who is in the way of its port', async () => {
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(await ceph.ceph('mon', 'dump'))?.[1]);
    await ceph.stop();
    const other = createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    await expect(startCeph({ directory })).rejects.toMatchObject({ code: 'lab.port_taken' });
    other.close();
    await startCeph({ directory });
  });
});

it('makes anew what was half made', async () => {
  const other = join(parent, 'half');
  await mkdir(join(other, 'mon'), { recursive: true });
  await writeFile(join(other, 'mon', 'rest'), '');
  try {
    const made = await startCeph({ directory: other, osdBytes: 4 * 2 ** 30 });
    expect(await made.ceph('osd', 'stat')).toContain('1 osds: 1 up');
    expect((await stat(join(other, 'osd', 'block'))).size).toBe(4 * 2 ** 30);
  } finally {
    await stopCeph(other);
  }
});

describe('the user of the services', () => {
  const capsOf = (namespace: string, pool: string = ceph.diskPool) =>
    `profile rbd pool=${pool} namespace=${namespace}, profile rbd-read-only pool=${ceph.imagePool}`;
  const make = (entity: string, mon: string, osd: string) =>
    asUser('ceph', 'auth', 'get-or-create', entity, 'mon', mon, 'osd', osd);

  it('keeps users of its own', async () => {
    await make('client.m2.tenant', 'profile rbd', capsOf('tenant'));
    await asUser('ceph', 'auth', 'caps', 'client.m2.tenant', 'mon', 'profile rbd', 'osd', capsOf('other'));
    expect(await asUser('ceph', 'auth', 'get', 'client.m2.tenant')).toContain('namespace=other');
    await asUser('ceph', 'auth', 'rm', 'client.m2.tenant');
    await expect(asUser('ceph', 'auth', 'get', 'client.m2.tenant')).rejects.toThrow('ENOENT');
  });

  it('makes nobody who may do more', async () => {
    await expect(make('client.other', 'profile rbd', capsOf('tenant'))).rejects.toThrow('EACCES');
    await expect(make('client.m2.root', 'allow *', capsOf('tenant'))).rejects.toThrow('EACCES');
    await expect(make('client.m2.root', 'profile rbd', 'allow *')).rejects.toThrow('EACCES');
    await expect(make('client.m2.root', 'profile rbd', capsOf('tenant', 'other'))).rejects.toThrow('EACCES');
    await expect(asUser('ceph', 'auth', 'get', 'client.admin')).rejects.toThrow('EACCES');
  });

  it('fences a stale client', async () => {
    await asUser('ceph', 'osd', 'blocklist', 'add', '127.0.0.1:0/4711');
    expect(await asUser('ceph', 'osd', 'blocklist', 'ls')).toContain('127.0.0.1:0/4711');
  });
});

describe('faults', () => {
  /** Two seconds for an operation, which then fails with ETIMEDOUT. */
  const impatient = ['--rados_osd_op_timeout', '2', '--rados_mon_op_timeout', '2', '--client_mount_timeout', '2'];
  const create = (name: string) => rbd('create', '--size', '8M', `${ceph.diskPool}/${name}`, ...impatient);

  it('an OSD that was killed comes back with its data', async () => {
    await create('survivor');
    await ceph.killOsd();
    expect(await running()).toEqual(['mon', 'mgr']);
    await expect(create('nowhere')).rejects.toThrow('timed out');
    await ceph.startOsd();
    expect(await volumes(ceph.diskPool)).toContain('survivor');
  });

  it('an OSD that was stopped answers nothing until it goes on', async () => {
    await ceph.signalOsd('SIGSTOP');
    await expect(create('never')).rejects.toThrow('timed out');
    await ceph.signalOsd('SIGCONT');
    await create('after-the-stop');
  });

  it('a monitor that is away refuses new clients until it is back', async () => {
    await ceph.stopMon();
    await expect(create('nowhere')).rejects.toThrow(/timed out|connect/);
    await ceph.startMon();
    await create('with-a-monitor');
  });

  it('a full cluster lets writes wait until there is room, and reads go on', async () => {
    await create('read-meanwhile');
    await ceph.setFull();
    await expect(create('too-much')).rejects.toThrow('timed out');
    expect(await volumes(ceph.diskPool)).toContain('read-meanwhile');
    const waits = rbd('create', '--size', '8M', `${ceph.diskPool}/patient`);
    await ceph.unsetFull();
    await waits;
  });

  it('stop ends also what hangs, and never asks who started it', async () => {
    const marks = (['mon', 'osd', 'mgr'] as const).map((name) => dataArgument(layoutOf(directory), name));
    await ceph.signalOsd('SIGSTOP');
    await stopCeph(directory);
    expect(await processesWith(marks)).toEqual([]);
    await stopCeph(directory);
    await stopCeph(join(directory, 'nothing'));
  });
});
