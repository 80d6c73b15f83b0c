import { ApiError, M2Client, type Stage, startStage, type StageOptions } from '@m2/cli';
import type { Operation, ServiceName } from '@m2/contracts';
import { portsOf, status, up } from '@m2/supervisor';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { stages } from './kept-logs.js';
import { KillSwitch } from './kill-switch.js';
import { type Replica, startReplica } from './replicas.js';

/** Longer than anything takes on a busy machine, and shorter than the time limit of a test, so that the error says what it waited for. */
const patienceMs = 120_000;

/** Services start faster from compiled code. This is where Node keeps it by default. */
const quick = { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache') };

export interface InstallationOptions extends Pick<StageOptions, 'importHosts' | 'storage' | 'env' | 'state'> {
  nodes: number;
  /** The services that tests kill from inside. */
  mortal?: ServiceName[];
  /** The services that run twice. */
  twice?: ServiceName[];
}

/** An installation with nodes without machines, one golden image named `golden`, and a kill switch for every mortal service. */
export interface TestInstallation {
  stage: Stage;
  client: M2Client;
  /** Asks once; for loops that ask again. */
  impatient: M2Client;
  adminToken: string;
  killSwitch(service: ServiceName): KillSwitch;
  /** Starts a supervisor where there is none. */
  supervise(): Promise<void>;
  /** The second process of a service that runs twice. */
  second(service: ServiceName): Replica;
  close(): Promise<void>;
}

export async function startTestInstallation({
  nodes,
  mortal = [],
  twice = [],
  importHosts,
  storage,
  state,
  env = {},
}: InstallationOptions): Promise<TestInstallation> {
  const orders = await mkdtemp(join(tmpdir(), 'm2-faults-'));
  const switches = new Map(mortal.map((service) => [service, new KillSwitch(join(orders, service))]));
  let stage: Stage | undefined;
  const replicas = new Map<ServiceName, Replica>();
  const close = async () => {
    await Promise.all([...replicas.values()].map((replica) => replica.stop()));
    if (stage) stages.delete(stage);
    await stage?.close();
    await rm(orders, { recursive: true, force: true });
  };
  const again: Pick<StageOptions, 'env' | 'pace' | 'importHosts'> = {
    env: {
      ...env,
      ...Object.fromEntries(
        [...switches].map(([service, { environment }]) => [service, { ...env[service], ...environment, ...quick }]),
      ),
    },
    pace: { longestBackoffMs: 100 },
    importHosts,
  };
  try {
    stage = await startStage({
      nodes: Array.from({ length: nodes }, (_, place) => ({ name: `node-${place + 1}`, firmware: 'none' })),
      network: 'user',
      ...again,
      ...(storage && { storage }),
      state,
    });
    stages.add(stage);
    for (const service of twice) replicas.set(service, await startReplica(stage, service));
    const adminToken = (await readFile(stage.running.adminTokenFile, 'utf8')).trim();
    const where = { state: stage.state };
    const installation: TestInstallation = {
      stage,
      supervise: async () => {
        if (!(await status(where))) await up({ ...where, detach: true, ...again });
      },
      // A gateway that was killed during a request takes some seconds to be back on a busy machine.
      client: new M2Client({ url: stage.running.url, token: adminToken, attempts: 30 }),
      impatient: new M2Client({ url: stage.running.url, token: adminToken, attempts: 1 }),
      adminToken,
      killSwitch: (service) => {
        const found = switches.get(service);
        if (!found) throw new Error(`${service} was not started as mortal`);
        return found;
      },
      second: (service) => {
        const found = replicas.get(service);
        if (!found) throw new Error(`${service} does not run twice`);
        return found;
      },
      close,
    };
    await succeeded(installation, await importGolden(installation));
    return installation;
  } catch (error) {
    await close();
    throw error;
  }
}

const importGolden = ({ client, stage: { project, image } }: TestInstallation) =>
  client.call('imageImport', {
    params: { project },
    body: { name: 'golden', source: { kind: 'file', path: image.path }, sha256: image.sha256 },
  });

const hasEnded = ({ state }: Operation) => !['running', 'undoing'].includes(state);

/** Waits until the operation has ended, also while services are killed. */
export function ended({ impatient }: TestInstallation, { id }: Operation, forMs?: number): Promise<Operation> {
  const look = async () => {
    const operation = await impatient.call('operationShow', { params: { id } });
    return hasEnded(operation) ? operation : undefined;
  };
  return eventually(`the end of operation ${id}`, look, forMs);
}

export async function succeeded(installation: TestInstallation, operation: Operation): Promise<Operation> {
  const last = await ended(installation, operation);
  if (last.state !== 'succeeded') throw new Error(`${last.kind} ended ${last.state}: ${JSON.stringify(last.error)}`);
  return last;
}

/** Calls `look` until it finds something, and returns that. While M2 is away, it finds nothing. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined>, forMs = patienceMs): Promise<T> {
  const until = performance.now() + forMs;
  let why: unknown;
  while (performance.now() < until) {
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) throw error;
      why = error;
    }
    await pause(25);
  }
  throw new Error(`waited in vain for ${what}`, { cause: why });
}

export interface ProvisionRequest {
  node?: string;
  disk?: string;
  waitFor?: 'ready' | 'booted';
}

let disks = 0;

/** Asks for a provision, from a new clone unless a disk is named. */
export const askProvision = ({ client, stage: { project } }: TestInstallation, request: ProvisionRequest = {}) => {
  const { node = 'node-1', disk, waitFor = 'ready' } = request;
  disks += 1;
  return client.call('provisionCreate', {
    params: { project },
    body: { node, waitFor, ...(disk ? { disk } : { image: 'golden', diskName: `disk-${disks}` }) },
  });
};

export const askDeprovision = (
  { client, stage: { project } }: TestInstallation,
  id: string,
  disk: 'keep' | 'delete' = 'delete',
) => client.call('provisionDelete', { params: { project, id }, query: { disk } });

/** Removes a disk for good. */
export const purgeDisk = ({ client, stage: { project } }: TestInstallation, disk: string) =>
  client.call('diskDelete', { params: { project, disk }, query: { purge: 'true' } });

/** Does what a node's firmware and operating system do over the network: boot script, metadata, phone-home. */
export async function bootNode({ stage }: TestInstallation, place = 0): Promise<void> {
  const origin = `http://127.0.0.1:${portsOf(stage.running.settings.port).boot}`;
  const mac = encodeURIComponent(stage.lab.nodes[place]!.mac);
  const fetched = async (path: string, init?: RequestInit) => {
    const response = await fetch(origin + path, init);
    const text = await response.text();
    return response.ok ? text : undefined;
  };
  await eventually('a boot script with a disk in it', async () =>
    (await fetched(`/boot/ipxe?mac=${mac}`))?.includes('iscsi:') ? true : undefined,
  );
  const metadata = await eventually('metadata', () => fetched(`/boot/metadata?mac=${mac}`));
  const path = /^phone_home=(.+)$/m.exec(metadata)?.[1] ?? '';
  const body = JSON.stringify({ kernel: 'none' });
  await eventually('a welcome', () =>
    fetched(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body }),
  );
}

/** What a node's BMC is told to do with the power while `work` runs. */
export async function powerCommands(
  { stage }: TestInstallation,
  work: () => Promise<void>,
  place = 0,
): Promise<string[]> {
  const node = stage.lab.nodes[place]!;
  const before = (await node.told()).length;
  await work();
  return (await node.told()).slice(before).filter((line) => line.startsWith('power'));
}

export const untilStep = ({ impatient }: TestInstallation, { id }: Operation, step: string, state: string) =>
  eventually(`step ${step} to be ${state}`, async () => {
    const { steps } = await impatient.call('operationShow', { params: { id } });
    return steps.some((each) => each.name === step && each.state === state) ? true : undefined;
  });

export const untilState = ({ impatient }: TestInstallation, { id }: Operation, ...states: Operation['state'][]) =>
  eventually(`the operation to be ${states.join(' or ')}`, async () => {
    const { state } = await impatient.call('operationShow', { params: { id } });
    return states.includes(state) ? true : undefined;
  });
