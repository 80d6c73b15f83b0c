import {
  buildLabImage,
  createLab,
  destroyLab,
  type Lab,
  type LabCeph,
  type LabNodeRequest,
  type LabOptions,
} from '@m2/lab';
import type { Node, Operation } from '@m2/contracts';
import { findFreeBasePort, type Running, type UpOptions } from '@m2/supervisor';
import { chmod, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { M2Client } from '../client.js';
import { usageError } from '../errors.js';
import { hasEnded } from '../watch.js';
import { startInstallation, stopInstallation } from './installation.js';

export interface StageOptions extends Pick<UpOptions, 'env' | 'importHosts' | 'pace'> {
  nodes: LabNodeRequest[];
  /** `user`: QEMU's user networking, without root. `netns`: a network of the lab's own, with DHCP and TFTP by M2; needs root. */
  network: 'user' | 'netns';
  /** `file` by default; `ceph`: in a cluster of the stage's own. */
  storage?: 'file' | 'ceph';
  /** A directory for M2's state that is removed by whoever made it; absent: in the stage. */
  state?: string | undefined;
  report?: (line: string) => void;
  /** Gives up between two parts of the start, and cleans up. */
  signal?: AbortSignal | undefined;
}

/** A whole installation with a rack of its own: what the demo, the end-to-end tests and the benchmark play on. */
export interface Stage {
  dir: string;
  state: string;
  client: M2Client;
  running: Running;
  lab: Lab;
  /** With the storage `ceph`. */
  ceph?: LabCeph | undefined;
  /** The lab's nodes as M2 knows them, in the same order. */
  nodes: Node[];
  project: string;
  /** Path and checksum of the lab's image. */
  image: { path: string; sha256: string };
  /** Takes everything down and away. */
  close(): Promise<void>;
}

const prefix = 'm2-stage-';
export const stageProject = 'demo';
/** What a node's firmware asks for, seen from QEMU's user network; iPXE fills in the braces. */
const scriptUrl = (port: number) => `http://10.0.2.2:${port}/boot/ipxe?mac=\${net0/mac}`;

/** Starts the lab's rack and M2 beside it, and registers the nodes. Leaves nothing behind when it fails. */
export async function startStage(options: StageOptions): Promise<Stage> {
  const { report = () => {}, storage = 'file', env, importHosts, pace } = options;
  const dir = await mkdtemp(join(tmpdir(), prefix));
  // As root, PostgreSQL runs as another user and has to get through.
  await chmod(dir, 0o711);
  const [inStage, labDir] = [join(dir, 'state'), join(dir, 'lab')];
  const { state = inStage } = options;
  // Whoever closes the stage knows its directory only.
  if (state !== inStage) await symlink(state, inStage);
  const close = () => closeStage(dir);
  try {
    report('the image');
    const image = await buildLabImage();
    const port = await findFreeBasePort();
    options.signal?.throwIfAborted();
    report('the rack');
    const network: Pick<LabOptions, 'network'> & { bootUrl?: string } =
      options.network === 'user' ? { network: 'user', bootUrl: scriptUrl(port + 1) } : { network: 'netns' };
    const lab = await createLab({ dir: labDir, nodes: options.nodes, ...network } as LabOptions);
    options.signal?.throwIfAborted();
    report('M2');
    const { ceph, ...running } = await startInstallation(
      {
        state,
        port,
        detach: true,
        storage: { kind: storage },
        env,
        importHosts,
        pace,
        importDirectories: [dirname(image.path)],
        ...provisioningNetwork(lab),
      },
      report,
    );
    options.signal?.throwIfAborted();
    const token = (await readFile(running.adminTokenFile, 'utf8')).trim();
    const client = new M2Client({ url: running.url, token });
    await client.call('projectCreate', { body: { name: stageProject } });
    const nodes: Node[] = [];
    for (const [place, node] of lab.nodes.entries())
      nodes.push(await register(client, node, options.nodes[place]?.firmware));
    return { dir, state, client, running, lab, ceph, nodes, project: stageProject, image, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Ends and removes a stage; needs only its directory. Throws for a directory that is none of ours: it would be deleted. */
export async function closeStage(dir: string): Promise<void> {
  const found = await readdir(dir).catch(() => [] as string[]);
  const isStage =
    basename(resolve(dir)).startsWith(prefix) &&
    (found.length === 0 || found.includes('state') || found.includes('lab'));
  if (!isStage) throw usageError(`${dir} was not made by m2 demo`, 'Give the directory that m2 demo --keep named.');
  // The nodes first: they have their disks from what is stopped next.
  await destroyLab(join(dir, 'lab'));
  await stopInstallation(join(dir, 'state'));
  await rm(dir, { recursive: true, force: true });
}

function provisioningNetwork({ network }: Lab) {
  if (!network) return { advertise: '10.0.2.2' };
  const { from, to } = network.dhcpRange;
  return {
    provisioningAddress: network.serverAddress,
    dhcp: { interface: network.serverInterface, range: `${from},${to}` },
  };
}

async function register(
  client: M2Client,
  { name, mac, bmc }: Lab['nodes'][number],
  labFirmware: LabNodeRequest['firmware'],
): Promise<Node> {
  const { address, port, user, password } = bmc;
  const firmware = labFirmware?.startsWith('uefi') ? 'uefi' : 'bios';
  return client.call('nodeRegister', {
    body: { name, firmware, nics: [{ label: 'eth0', mac }], bmc: { address, port, user, password, cipherSuites: [3] } },
  });
}

/** Follows an operation to its end. `each` sees every state that the stream brings. */
export async function untilEnded(
  client: M2Client,
  id: string,
  each?: (operation: Operation) => void,
): Promise<Operation> {
  for await (const operation of client.stream('operationShow', { params: { id } })) {
    each?.(operation);
    if (hasEnded(operation)) return operation;
  }
  return client.call('operationShow', { params: { id } });
}
