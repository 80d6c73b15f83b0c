import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sharedCeph } from '@m2/lab/testing';
import { describe, expect, it } from 'vitest';
import { MiB, useCluster } from './cluster.fixture.ts';

const cluster = useCluster(sharedCeph);

describe('users', () => {
  it('are made by the monitors, and stay in their namespace', async () => {
    const rbd = cluster.client();
    const { diskPool, imagePool, user } = cluster.ceph;
    const golden = cluster.image();
    await rbd.create(golden, { sizeBytes: MiB });
    await rbd.snapCreate({ ...golden, snap: 's' });
    for (const namespace of ['ours', 'theirs']) await rbd.namespaceCreate(diskPool, namespace);
    const { out } = await rbd.monCommand({
      prefix: 'auth get-or-create',
      entity: `client.${user}.ours`,
      caps: [
        'mon',
        'profile rbd',
        'osd',
        `profile rbd pool=${diskPool} namespace=ours, profile rbd-read-only pool=${imagePool}`,
      ],
    });
    expect(out.toString().replace(user, 'm2')).toMatch(/^\[client\.m2\.ours\]\s+key = \S+\s*$/);
    const keyring = cluster.path('ours.keyring');
    await writeFile(keyring, out, { mode: 0o600 });
    const conf = cluster.path('ours.conf');
    const common = (await readFile(cluster.ceph.conf, 'utf8')).split('[client')[0]!;
    await writeFile(conf, `${common}[client.${user}.ours]\nkeyring = ${keyring}\n`);
    const tenant = cluster.client({ conf, user: `${user}.ours` });
    const disk = cluster.disk('ours');
    await rbd.clone({ ...golden, snap: 's' }, disk);
    const handle = await tenant.openImage(disk);
    await handle.write(0, Buffer.alloc(512, 7));
    expect((await handle.read(0, 1024)).lastIndexOf(7)).toBe(511);
    await handle.close();
    for (const refused of [cluster.disk('theirs'), cluster.disk(), cluster.image()]) {
      await expect(tenant.create(refused, { sizeBytes: MiB })).rejects.toMatchObject({ code: 'denied' });
    }
    await expect(tenant.list(diskPool, 'theirs')).rejects.toMatchObject({ code: 'denied' });
  });

  it('are told what the monitors say to a command', async () => {
    const rbd = cluster.client();
    const { status, out } = await rbd.monCommand({ prefix: 'osd stat', format: 'json' });
    expect([status, JSON.parse(out.toString())]).toMatchObject(['', { num_osds: 1 }]);
    await expect(rbd.monCommand({ prefix: 'no such thing' })).rejects.toMatchObject({ code: 'invalid' });
    await expect(rbd.monCommand({ prefix: 'auth get', entity: 'client.admin' })).rejects.toMatchObject({
      code: 'denied',
      call: 'mon command auth get',
    });
  });

  it('whose configuration or keyring is not there get no connection', async () => {
    const conf = cluster.path('keyless.conf');
    const common = (await readFile(cluster.ceph.conf, 'utf8')).split('[client')[0]!;
    await writeFile(conf, `${common}keyring = ${cluster.path('no.keyring')}\n`);
    await expect(cluster.client({ conf }).list('any')).rejects.toMatchObject({ code: 'denied', call: 'rados_connect' });
    const missing = cluster.client({ conf: cluster.path('no.conf') });
    await expect(missing.list('any')).rejects.toMatchObject({ code: 'unavailable', call: 'rados_conf_read_file' });
  });

  it('keep their key to themselves', async () => {
    const rbd = cluster.client();
    await rbd.versions();
    const keyring = /keyring = (\S+)/.exec(await readFile(cluster.ceph.conf, 'utf8'))![1]!;
    const key = /key = (\S+)/.exec(await readFile(keyring, 'utf8'))![1]!;
    for (const file of ['cmdline', 'environ']) {
      const seen = await readFile(`/proc/${rbd.pid}/${file}`, 'utf8');
      expect(seen).not.toContain(key);
      expect(seen).not.toContain(cluster.ceph.conf);
    }
  });
});

it('the child ends with its parent, however that ends', async () => {
  const parent = fork(
    fileURLToPath(new URL('./parent.fixture.ts', import.meta.url)),
    [cluster.ceph.conf, cluster.ceph.user],
    {
      execArgv: [],
    },
  );
  const [pid] = (await once(parent, 'message')) as [number];
  const exists = async () => {
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
    // A zombie counts as ended: its parent has not collected it yet.
    return state !== undefined && !/\) Z /.test(state);
  };
  expect(await exists()).toBe(true);
  parent.kill('SIGKILL');
  await expect.poll(exists, { timeout: 10_000 }).toBe(false);
});
