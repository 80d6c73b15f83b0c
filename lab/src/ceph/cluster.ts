import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { run } from '../process/run.js';
import * as configuration from './configuration.js';
import type { Identity } from './configuration.js';
import { cephEnvironment, daemonPid, dataArgument, ensureDaemon, ensureNoDaemon, untilDaemon } from './daemon.js';
import { type Access, daemonIds, type Layout, mainAccess, poolsOf } from './layout.js';

/** Runs one of Ceph's programs as the administrator; `ceph` itself gives up on a monitor that is away. */
export const asAdmin = (layout: Layout, program: string, args: string[]): Promise<string> =>
  run(program, ['--conf', layout.clusterConf, ...args], { env: cephEnvironment, deadlineMs: 30_000 });

export const ceph = (layout: Layout, ...args: string[]): Promise<string> =>
  asAdmin(layout, 'ceph', ['--connect-timeout', '10', ...args]);

/** Undefined when no cluster was made there, or not to the end. */
export async function readIdentity(layout: Layout): Promise<Identity | undefined> {
  const text = await readFile(layout.identity, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : (JSON.parse(text) as Identity);
}

/** Makes a cluster in a directory that has none, and leaves its monitor and its OSD running. */
export async function createCluster(layout: Layout, osdBytes: number): Promise<void> {
  await removeRests(layout);
  for (const name of ['mon', 'osd', 'mgr', 'logs'] as const) await mkdir(layout[name], { mode: 0o700 });
  const identity = { fsid: randomUUID(), osdUuid: randomUUID(), monPort: await freeMonPort(), osdBytes };
  await writeConfigurations(layout, identity);
  await writeKeyrings(layout);
  // Making the disk takes longest, and needs no monitor.
  await Promise.all([makeDisk(layout, identity), makeMonitor(layout, identity)]);
  await startOsd(layout);
  // Atomically: a power cut must not leave half a file.
  await writeFile(`${layout.identity}.new`, JSON.stringify(identity));
  await rename(`${layout.identity}.new`, layout.identity);
}

/** Starts what does not run of a cluster that was made before. */
export async function restartCluster(layout: Layout, identity: Identity): Promise<void> {
  // Written at every start: they name the directory, which may have been moved, and their settings may have changed.
  await writeConfigurations(layout, identity);
  await startMon(layout, identity);
  await startOsd(layout);
}

/** Resolves when the monitor answers. */
export async function startMon(layout: Layout, identity: Identity): Promise<void> {
  if ((await daemonPid(layout, 'mon')) === undefined) await checkPort(identity.monPort);
  await ensureDaemon(layout, 'mon');
  // A client whose first try is refused waits long before it tries again; we do not.
  await untilDaemon(layout, 'mon', () => accepts(identity.monPort));
  await untilDaemon(layout, 'mon', () => ceph(layout, 'mon', 'stat').then(Boolean, () => false));
}

/** Resolves when both pools can be read through it. */
export async function startOsd(layout: Layout): Promise<void> {
  await ensureDaemon(layout, 'osd');
  // Not before it is in the map: a client that asks too early looks again only after five seconds.
  await untilDaemon(layout, 'osd', () => isInMap(layout).catch(() => false));
  const read = (pool: string) =>
    run('rbd', ['--conf', layout.clientConf, '--id', mainAccess.user, 'ls', pool], {
      env: cephEnvironment,
      deadlineMs: 5_000,
    });
  await untilDaemon(layout, 'osd', () => Promise.all(poolsOf(mainAccess).map(read)).then(Boolean, () => false));
}

/**
 * Whether the monitor knows this very process: after a crash it holds the last one to be up, for a quarter of an hour. An OSD's address
 * ends with its process id (entity_addr_t's nonce).
 */
async function isInMap(layout: Layout): Promise<boolean> {
  const pid = await daemonPid(layout, 'osd');
  const { osds } = JSON.parse(await ceph(layout, 'osd', 'dump', '--format', 'json')) as {
    osds: { up: number; public_addrs: { addrvec: { nonce: number }[] } }[];
  };
  return osds.some(({ up, public_addrs }) => up === 1 && public_addrs.addrvec.some(({ nonce }) => nonce === pid));
}

async function makeDisk(layout: Layout, { osdUuid }: Identity): Promise<void> {
  const args = ['-i', daemonIds.osd, '--mkfs', '--no-mon-config', '--osd-uuid', osdUuid, dataArgument(layout, 'osd')];
  await asAdmin(layout, 'ceph-osd', args);
}

async function makeMonitor(layout: Layout, identity: Identity): Promise<void> {
  const { fsid, osdUuid } = identity;
  const address = configuration.monAddress(identity);
  await run('monmaptool', ['--create', '--fsid', fsid, '--addv', daemonIds.mon, address, layout.monmap]);
  const args = ['-i', daemonIds.mon, '--mkfs', '--monmap', layout.monmap, '--keyring', layout.monKeyring];
  await asAdmin(layout, 'ceph-mon', [...args, dataArgument(layout, 'mon')]);
  await startMon(layout, identity);
  await Promise.all([ceph(layout, 'osd', 'new', osdUuid, daemonIds.osd), makePools(layout, mainAccess)]);
}

async function makePools(layout: Layout, access: Access): Promise<void> {
  const makePool = async (pool: string) => {
    await ceph(layout, 'osd', 'pool', 'create', pool, '8');
    await ceph(layout, 'osd', 'pool', 'application', 'enable', pool, 'rbd');
  };
  await Promise.all(poolsOf(access).map(makePool));
}

/** Makes two more pools, and a user who may use them and nothing else. Returns the path of the user's configuration. */
export async function makeAccess(layout: Layout, access: Access): Promise<string> {
  const { mon, osd } = configuration.clientCaps(access);
  const [conf, keyring] = [`${access.user}.conf`, `client.${access.user}.keyring`].map((name) =>
    join(layout.directory, name),
  ) as [string, string];
  const makeUser = async () => {
    const key = await ceph(layout, 'auth', 'get-or-create', `client.${access.user}`, 'mon', mon, 'osd', osd);
    await writeFile(keyring, key, { mode: 0o600 });
    await writeFile(conf, configuration.clientConf((await readIdentity(layout))!, access.user, keyring));
  };
  await Promise.all([makePools(layout, access), makeUser()]);
  return conf;
}

async function writeConfigurations(layout: Layout, identity: Identity): Promise<void> {
  await writeFile(layout.clusterConf, configuration.clusterConf(layout, identity));
  await writeFile(layout.clientConf, configuration.clientConf(identity, mainAccess.user, layout.clientKeyring));
}

/** The monitor takes over everybody from its first keyring, which spares a round trip for each; the others keep their own key. */
async function writeKeyrings(layout: Layout): Promise<void> {
  const files: Record<string, string | undefined> = {
    'osd.0': join(layout.osd, 'keyring'),
    'mgr.x': join(layout.mgr, 'keyring'),
    'client.admin': layout.adminKeyring,
    [`client.${mainAccess.user}`]: layout.clientKeyring,
  };
  const everybody: Record<string, Record<string, string>> = {
    ...configuration.daemonCaps,
    [`client.${mainAccess.user}`]: configuration.clientCaps(),
  };
  let all = '';
  for (const [entity, caps] of Object.entries(everybody)) {
    const key = configuration.encodeKey(randomBytes(16), new Date());
    all += configuration.keyring(entity, key, caps);
    const file = files[entity];
    if (file) await writeFile(file, configuration.keyring(entity, key), { mode: 0o600 });
  }
  await writeFile(layout.monKeyring, all, { mode: 0o600 });
}

/** Removes what an interrupted start left. Nothing of it was ever in use. */
async function removeRests(layout: Layout): Promise<void> {
  for (const name of ['osd', 'mgr', 'mon'] as const) await ensureNoDaemon(layout, name);
  const { directory: _, lock: __, ...made } = layout;
  for (const path of Object.values(made)) await rm(path, { recursive: true, force: true });
}

/**
 * A port for the monitor that is free now. Below the ports that the kernel gives to outgoing connections, for it has to be free again at
 * every restart; and by chance, so that two clusters that are made at the same time do not choose the same one.
 */
async function freeMonPort(): Promise<number> {
  for (;;) {
    const port = randomInt(6100, 6800);
    if (await isFree(port)) return port;
  }
}

async function checkPort(port: number): Promise<void> {
  if (await isFree(port)) return;
  const message = `Port ${port} of 127.0.0.1, the Ceph monitor's, is taken: end whoever listens there, then start again.`;
  throw Object.assign(new Error(message), { code: 'lab.port_taken' });
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  const free = await once(server, 'listening').then(
    () => true,
    () => false,
  );
  server.close();
  return free;
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
