import { type ServiceName, serviceNames } from '@m2/contracts';
import { cephDaemons, type LabCeph } from '@m2/lab';
import { down, findFreeBasePort, SupervisorError } from '@m2/supervisor';
import { execFile } from 'node:child_process';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Person } from '../test/person.js';
import { startInstallation, stopInstallation } from './installation.js';

const run = promisify(execFile);
/** In the place of the services, which have tests of their own. */
const standIn = fileURLToPath(new URL('../../../supervisor/src/testing/stand-in.mjs', import.meta.url));

let state: string;
let port: number;
beforeEach(async () => {
  // Not below another one that is closed: as root, PostgreSQL runs as somebody else.
  state = await realpath(await mkdtemp(join(tmpdir(), 'm2i-')));
  port = await findFreeBasePort();
});
afterEach(async () => {
  await stopInstallation(state);
  await rm(state, { recursive: true, force: true });
});

const start = async (storage?: Parameters<typeof startInstallation>[0]['storage'], at = port) => {
  const journal = { STAND_IN_JOURNAL: join(state, 'logs', 'journal') };
  const mains = Object.fromEntries(serviceNames.map((name) => [name, standIn])) as Record<ServiceName, string>;
  const env = Object.fromEntries(serviceNames.map((name) => [name, journal]));
  // In the foreground: this process is the supervisor.
  return startInstallation({ state, port: at, mains, env, storage }, () => {});
};
const rbd = async ({ conf, user, diskPool }: LabCeph, ...args: string[]) =>
  (await run('rbd', ['--conf', conf, '--id', user, '--pool', diskPool, ...args])).stdout;
const daemons = async () => (await cephDaemons(join(state, 'ceph'))).filter(({ pid }) => pid).map(({ name }) => name);

it('keeps its own Ceph from one start to the next, and stops it last', async () => {
  const person = new Person({ env: { M2_STATE: state } });
  const first = await start({ kind: 'ceph' });
  await rbd(first.ceph!, 'create', '--size', '8M', 'disk');
  const shown = await person.m2(['status']);
  expect(shown).toMatchObject({ code: 0, out: expect.stringMatching(/^ceph-osd +ready/m) as string });

  expect((await person.m2(['down'])).err).toContain('Everything is stopped.');
  await first.ended;
  expect(await daemons()).toEqual([]);
  expect((await person.m2(['down'])).err).toContain('Nothing ran');

  const { ceph, settings } = await start();
  expect(settings.storage.kind).toBe('ceph');
  expect(await rbd(ceph!, 'ls')).toBe('disk\n');
  await ceph!.killOsd();
  expect(await person.m2(['status'])).toMatchObject({
    code: 1,
    out: expect.stringMatching(/^ceph-osd +stopped/m) as string,
  });
});

it('leaves Ceph to the installation that runs already, and takes it along when it cannot start', async () => {
  await start({ kind: 'ceph' });
  await expect(start()).rejects.toMatchObject({ code: 'supervisor.already_running' });
  expect(await daemons()).toEqual(['mon', 'osd', 'mgr']);

  // As if the supervisor had been killed: the rest of M2 is gone, and its Ceph is not.
  await down({ state });
  const person = new Person({ env: { M2_STATE: state } });
  expect((await person.m2(['status'])).err).toContain('only ceph-mon, ceph-osd, ceph-mgr run');
  await expect(start(undefined, 80)).rejects.toThrow(SupervisorError);
  expect(await daemons()).toEqual([]);
});

it('does not start on another storage than before', async () => {
  await start({ kind: 'file' });
  await down({ state });
  await expect(start({ kind: 'ceph' })).rejects.toMatchObject({ code: 'supervisor.bad_option' });
  expect(await daemons()).toEqual([]);
});
