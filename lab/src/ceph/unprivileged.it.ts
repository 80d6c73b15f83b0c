import { spawnSync } from 'node:child_process';
import { chown, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run } from '../process/run.js';
import { stopCeph } from './ceph.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const entry = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
/** As root, the tests run it as a user without any rights; other users run it as themselves. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
/** A checkout below a closed home directory cannot be run by others, whatever the lab does. */
const isOpen = [process.execPath, root].every((path) => spawnSync('test', ['-r', path], user).status === 0);

let home: string;
beforeAll(async () => {
  await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', join(root, 'lab')]);
  home = await realpath(await mkdtemp(join(tmpdir(), 'm2-ceph-')));
  if (user.uid) await chown(home, user.uid, user.gid);
});
afterAll(async () => {
  await stopCeph(join(home, 'ceph'));
  await rm(home, { recursive: true, force: true });
});

it.skipIf(!isOpen)('runs a cluster for a user without privileges', () => {
  const script = `
    const { cephDaemons, startCeph } = await import(${JSON.stringify(entry)});
    const ceph = await startCeph({ directory: ${JSON.stringify(join(home, 'ceph'))} });
    const { status } = (await import('node:child_process')).spawnSync(
      'rbd', ['--conf', ceph.conf, '--id', ceph.user, 'create', '--size', '8M', ceph.diskPool + '/disk'], { stdio: 'inherit' });
    const daemons = await cephDaemons(${JSON.stringify(join(home, 'ceph'))});
    await ceph.stop();
    console.log(status, daemons.filter(({ pid }) => pid).length);`;
  const env = { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    ...user,
    cwd: '/',
    env,
    encoding: 'utf8',
  });
  expect({ stdout, stderr }).toEqual({ stdout: '0 3\n', stderr: '' });
});
