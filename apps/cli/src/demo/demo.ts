import type { Operation, Provision } from '@m2/contracts';
import type { M2Client } from '../client.js';
import { operationError } from '../errors.js';
import { startStage, type Stage, type StageOptions, untilEnded } from '../stage/stage.js';
import { type Phase, Phases } from './phases.js';
import { versions } from './versions.js';

export interface DemoOptions {
  nodes: number;
  network: StageOptions['network'];
  storage: NonNullable<StageOptions['storage']>;
  /** Leave everything running. */
  keep: boolean;
  signal?: AbortSignal;
}

export interface DemoView {
  note(line: string): void;
  /** Shows an operation while it goes on. */
  operation(operation: Operation): void;
  operationEnded(): void;
}

export interface DemoResult {
  /** Every node's own operating system mounted its root over iSCSI and phoned home. */
  booted: boolean;
  /** Every second life saw the file that the first one wrote. */
  diskKept: boolean;
  phases: Phase[];
  versions: Record<string, string>;
  nodes: { name: string; boots: number; root: string; kernel: string }[];
}

interface Life {
  node: string;
  provision: Provision;
}

/**
 * The whole main job, on real parts and through the public API: import, provision, boot, deprovision, provision again with the same
 * disk. `onStage` is told as soon as there is something to take down.
 */
export async function runDemo(
  options: DemoOptions,
  view: DemoView,
  onStage: (stage: Stage) => void,
): Promise<DemoResult> {
  const phases = new Phases((name) => view.note(name));
  const nodes = Array.from({ length: options.nodes }, (_, index) => ({ name: `node-${index + 1}` }));
  const stage = await phases.time('start M2 and the rack', () =>
    startStage({
      nodes,
      network: options.network,
      storage: options.storage,
      signal: options.signal,
      report: (line) => view.note(`  ${line}`),
    }),
  );
  onStage(stage);
  const { client, image } = stage;
  const names = nodes.map(({ name }) => name);
  try {
    await phases.time('import the image', () => importImage(stage, view));
    const first = await phases.time('provision: clone, export, power on, boot', () =>
      provisionAll(client, view, names, (node) => ({ image: 'lab', diskName: `${node}-disk` })),
    );
    let second: Life[] = [];
    await phases.time('deprovision: the disk is kept', () => deprovisionAll(client, view, first));
    second = await phases.time('provision again with the same disk', () =>
      provisionAll(client, view, names, (node) => ({ disk: `${node}-disk` })),
    );
    if (!options.keep) await phases.time('deprovision', () => deprovisionAll(client, view, second));
    const kernel = String(second[0]?.provision.report?.['kernel'] ?? '');
    return {
      booted: [...first, ...second].every(({ provision }) => provision.state === 'booted' && onNetworkDisk(provision)),
      diskKept: second.every((life, index) => sameDisk(first[index], life)),
      phases: phases.list,
      versions: { ...(await versions(options.storage)), 'guest kernel': kernel, image: image.sha256.slice(0, 16) },
      nodes: second.map(({ node, provision: { report } }) => ({
        name: node,
        boots: Number(report?.['boots']),
        root: String(report?.['root']),
        kernel: String(report?.['kernel']),
      })),
    };
  } finally {
    if (!options.keep) await phases.time('clean up', () => stage.close());
  }
}

/** The node's own word: a root on a SCSI disk. It has no other disk than the one that iSCSI gave it. */
const onNetworkDisk = ({ report }: Provision) => String(report?.['root']).startsWith('/dev/sd');

/** The marker is a random value that the first boot wrote to the disk. */
const sameDisk = (first: Life | undefined, second: Life) => {
  const [a, b] = [first?.provision.report, second.provision.report];
  return Boolean(a?.['marker']) && a?.['marker'] === b?.['marker'] && Number(b?.['boots']) === Number(a?.['boots']) + 1;
};

async function importImage({ client, project, image: { path, sha256 } }: Stage, view: DemoView): Promise<void> {
  const body = { name: 'lab', source: { kind: 'file' as const, path }, sha256 };
  await finish(client, view, await client.call('imageImport', { params: { project }, body }));
}

async function provisionAll(
  client: M2Client,
  view: DemoView,
  nodes: string[],
  what: (node: string) => { image: string; diskName: string } | { disk: string },
): Promise<Life[]> {
  const params = { project: 'demo' };
  return inParallel(nodes, view, async (node, shown) => {
    const accepted = await client.call('provisionCreate', { params, body: { node, ...what(node), waitFor: 'booted' } });
    const { about } = await finish(client, shown, accepted);
    return { node, provision: await client.call('provisionShow', { params: { ...params, id: about['provision']! } }) };
  });
}

async function deprovisionAll(client: M2Client, view: DemoView, lives: Life[]): Promise<void> {
  await inParallel(lives, view, async ({ provision: { id } }, shown) => {
    await finish(client, shown, await client.call('provisionDelete', { params: { project: 'demo', id } }));
  });
}

/** All at once; of several, the first is shown step by step. */
function inParallel<T, R>(items: T[], view: DemoView, work: (item: T, view: DemoView) => Promise<R>): Promise<R[]> {
  const quiet: DemoView = { note: () => {}, operation: () => {}, operationEnded: () => {} };
  return Promise.all(items.map((item, index) => work(item, index === 0 ? view : quiet)));
}

async function finish(client: M2Client, view: DemoView, accepted: Operation): Promise<Operation> {
  try {
    const ended = await untilEnded(client, accepted.id, (operation) => view.operation(operation));
    if (ended.state !== 'succeeded') throw operationError(ended);
    return ended;
  } finally {
    view.operationEnded();
  }
}
