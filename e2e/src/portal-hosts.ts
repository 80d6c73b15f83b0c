import type { Stage } from '@m2/cli';
import { findFreeBasePort, status } from '@m2/supervisor';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { vi } from 'vitest';
import { processesWith } from './leftovers.js';

/** A machine that exports disks: an iscsi-svc with its daemons, in one directory. */
export interface PortalHost {
  directory: string;
  /** Kills it as a power cut would: the service, its tgtd and its storage daemons. */
  die(): Promise<void>;
  /** Starts its service again, and returns when that is ready. */
  comeBack(): Promise<void>;
}

/** What the second host is started with beside what the first one has. */
const otherHost = 'host-b';
const patience = { timeout: 60_000 };

/** The stage's own iscsi-svc. The supervisor would start it again at once, so it is paused while the host is down. */
export function firstHost({ state }: Stage): PortalHost {
  const directory = join(state, 'targets');
  let held: number | undefined;
  return {
    directory,
    async die() {
      const pid = await servicePid(state);
      held = (await status({ state }))!.pid;
      process.kill(held, 'SIGSTOP');
      process.kill(pid, 'SIGKILL');
      await cutStorage(directory);
    },
    async comeBack() {
      if (held === undefined) return;
      process.kill(held, 'SIGCONT');
      held = undefined;
      // It learns of the death now, and may be asked before that.
      await vi.waitUntil(async () => isReady((await serviceOf(state)).port!), patience);
    },
  };
}

/** A second iscsi-svc with the same environment as the stage's, except for what makes it another host. `stop` ends it for good. */
export async function startSecondHost({ state }: Stage): Promise<PortalHost & { stop(): Promise<void> }> {
  const directory = join(state, 'targets-b');
  const first = await servicePid(state);
  const [environment, args] = await Promise.all([
    readFile(`/proc/${first}/environ`, 'utf8'),
    readFile(`/proc/${first}/cmdline`, 'utf8'),
  ]);
  const [command, ...rest] = args.split('\0').filter(Boolean);
  const pairs = environment.split('\0').map((line) => [line.split('=', 1)[0]!, line.slice(line.indexOf('=') + 1)]);
  const port = await findFreeBasePort();
  const env = {
    ...(Object.fromEntries(pairs.filter(([name]) => name)) as Record<string, string>),
    M2_PORTAL_HOST: otherHost,
    M2_TARGET_DIRECTORY: directory,
    M2_PORTAL_PORT_BASE: String(port + 1),
    M2_OPS_LISTEN: `127.0.0.1:${port}`,
  };
  let service: ChildProcess;
  const end = async (signal: NodeJS.Signals) => {
    if (service.exitCode !== null || service.signalCode !== null) return;
    service.kill(signal);
    await once(service, 'exit');
  };
  const comeBack = async () => {
    const log = await open(join(state, 'logs', `iscsi-${otherHost}.log`), 'a', 0o600);
    service = spawn(command!, rest, { cwd: '/', env, stdio: ['ignore', log.fd, log.fd] });
    await log.close();
    await vi.waitUntil(() => isReady(port), patience);
  };
  await comeBack();
  return {
    directory,
    comeBack,
    async die() {
      await end('SIGKILL');
      await cutStorage(directory);
    },
    async stop() {
      await end('SIGTERM');
      await cutStorage(directory);
    },
  };
}

/** The tgtd processes that projects have at a host, as iscsi-svc notes them. */
export async function tgtdsOf({ directory }: PortalHost): Promise<{ pid: number; pool: string; port: number }[]> {
  const names = (await readdir(directory)).filter((name) => /^tgtd\.\d+\.json$/.test(name));
  const records = names.map(
    async (name) =>
      JSON.parse(await readFile(join(directory, name), 'utf8')) as { pid: number; pool: string | null; port: number },
  );
  return (await Promise.all(records)).filter((record) => record.pool !== null) as {
    pid: number;
    pool: string;
    port: number;
  }[];
}

/**
 * Cuts the node from the first host's only portal, while the host itself is well: its tgtd is killed, and cannot come back to its port,
 * where whoever comes is turned away. Returns what gives the port back.
 */
export async function closePortal(stage: Stage, host: PortalHost): Promise<() => Promise<void>> {
  const service = await servicePid(stage.state);
  const [tgtd] = await tgtdsOf(host);
  const bouncer = createServer((socket) => socket.destroy());
  // Held, or it would be first at the port.
  process.kill(service, 'SIGSTOP');
  try {
    process.kill(tgtd!.pid, 'SIGKILL');
    const listen = async () => {
      const listening = once(bouncer, 'listening');
      bouncer.listen(tgtd!.port, stage.running.settings.provisioningAddress);
      return listening.then(
        () => true,
        () => false,
      );
    };
    await vi.waitUntil(listen, patience);
  } finally {
    process.kill(service, 'SIGCONT');
  }
  return async () => {
    bouncer.close();
    await once(bouncer, 'close');
  };
}

async function serviceOf(state: string) {
  return (await status({ state }))!.children.find(({ name }) => name === 'iscsi')!;
}

async function servicePid(state: string): Promise<number> {
  const { pid } = await serviceOf(state);
  if (pid === null) throw new Error('iscsi-svc does not run');
  return pid;
}

/** Kills what outlives the service at a host: its tgtd, the spare too, and its storage daemons. */
async function cutStorage(directory: string): Promise<void> {
  const storage = async () =>
    (await processesWith(`${directory}/`)).filter((line) => /^\d+ (tgtd|qemu-storage-daemon) /.test(line));
  for (const line of await storage()) process.kill(Number.parseInt(line, 10), 'SIGKILL');
  await vi.waitUntil(async () => (await storage()).length === 0, patience);
}

function isReady(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  get({ host: '127.0.0.1', port, path: '/readyz', timeout: 5_000 }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  }).on('error', () => resolve(false));
  return promise;
}
