import type { Stage } from '@m2/cli';
import type { ServiceName } from '@m2/contracts';
import { findFreeBasePort, status } from '@m2/supervisor';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** One that cannot start yet, because what it needs is away, must not keep the machine busy. */
const againMs = 100;

/** A second process of a service, which is started again whenever it ends, as the supervisor does with the first. */
export interface Replica {
  /** The process that runs now. */
  readonly pid: number;
  /** The origin of its API, where it has one. */
  readonly origin: string;
  stop(): Promise<void>;
}

/** What two processes of a service must not share, on one machine. */
const ownPlaces = (service: ServiceName, state: string, port: number): Record<string, string> => ({
  M2_INSTANCE: `${service}-b`,
  M2_OPS_LISTEN: `127.0.0.1:${port}`,
  M2_LISTEN: `127.0.0.1:${port + 1}`,
  M2_BMC_DIRECTORY: join(state, 'bmc-b'),
  M2_PORTAL_HOST: 'host-b',
  M2_TARGET_DIRECTORY: join(state, 'targets-b'),
  M2_PORTAL_PORT_BASE: String(port + 2),
});

/** Starts it with the environment of the stage's own process of that service. Returns when it is ready. */
export async function startReplica({ state }: Stage, service: ServiceName): Promise<Replica> {
  const first = (await status({ state }))!.children.find(({ name }) => name === service)!;
  const [environment, args] = await Promise.all(
    ['environ', 'cmdline'].map((file) => readFile(`/proc/${first.pid}/${file}`, 'utf8')),
  );
  const [command, ...rest] = args!.split('\0').filter(Boolean);
  const pairs = environment!.split('\0').filter(Boolean);
  const inherited = Object.fromEntries(
    pairs.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const port = await findFreeBasePort();
  const env = { ...inherited, ...ownPlaces(service, state, port) };
  const log = await open(join(state, 'logs', `${service}-b.log`), 'a', 0o600);
  let child: ChildProcess;
  let stopping = false;
  const launch = () => {
    child = spawn(command!, rest, { cwd: '/', env, stdio: ['ignore', log.fd, log.fd] });
    child.once('exit', () => setTimeout(() => stopping || launch(), againMs));
  };
  launch();
  await untilReady(port);
  return {
    get pid() {
      return child.pid!;
    },
    origin: `http://127.0.0.1:${port + 1}`,
    async stop() {
      stopping = true;
      if (child.exitCode === null && child.signalCode === null) {
        const gone = once(child, 'exit');
        child.kill('SIGTERM');
        // It may stand still.
        child.kill('SIGCONT');
        await gone;
      }
      await log.close();
    },
  };
}

async function untilReady(port: number): Promise<void> {
  const until = performance.now() + 60_000;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > until) throw new Error('the second replica is not ready');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
