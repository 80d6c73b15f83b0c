import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { bmcMark, setBmcMode, startBmc, type BmcAddress, type BmcMode } from './bmc/bmc.js';
import { freeUdpPorts } from './bmc/presence.js';
import { createLabNetwork, destroyLabNetwork, newNamespaceName, type LabNetwork } from './network/lab-network.js';
import type { Firmware, NodeNetwork } from './node/qemu-args.js';
import { isPoweredOn, prepareQemuNode, qemuMark } from './node/qemu-node.js';
import { ensureNoProcessWith } from './process/owned-process.js';

export interface LabNodeRequest {
  name: string;
  /** Default: made from the lab's directory and the node's name. */
  mac?: string;
  memoryMiB?: number;
  /** `bios` by default. `none`: a BMC without a machine, whose power is but a word in a file, to measure with many. */
  firmware?: Firmware | 'none';
}

export type LabOptions = {
  /** All files of the lab are below this directory. It is removed with the lab, so it must be the lab's own. */
  dir: string;
  nodes: LabNodeRequest[];
} & (
  | {
      /** Needs no root: BMCs on loopback, and nodes that see the host's loopback as 10.0.2.2. */
      network: 'user';
      /** What DHCP tells the nodes: `http://10.0.2.2:PORT/boot/ipxe?mac=${net0/mac}` (iPXE fills in the braces). */
      bootUrl: string;
    }
  /** Needs root: nodes and BMCs on a bridge in a namespace. DHCP is left to the server on `network.serverInterface`. */
  | { network: 'netns' }
);

/** Plain data about a lab. It holds the BMCs' passwords. */
export interface LabDescription {
  nodes: { name: string; mac: string; bmc: BmcAddress; serialLog: string }[];
  /** Only with the network `netns`. */
  network?: LabNetwork;
}

export interface LabNode {
  name: string;
  mac: string;
  bmc: BmcAddress;
  /** The file to which the node's serial console is appended. */
  serialLog: string;
  running(): Promise<boolean>;
  /** The boot device that IPMI set last (`pxe`, `default`, `none`, …), or undefined. */
  bootDevice(): Promise<string | undefined>;
  /** Everything that its BMC was told to do, in order: `power 1`, `boot pxe`, … */
  told(): Promise<string[]>;
  setBmcMode(mode: BmcMode): Promise<void>;
}

export interface Lab {
  nodes: LabNode[];
  network?: LabNetwork;
  describe(): LabDescription;
  destroy(): Promise<void>;
}

const nodeDir = (dir: string, name: string) => join(dir, 'nodes', name);
const bmcDir = (dir: string, name: string) => join(dir, 'nodes', name, 'bmc');

/** How many BMCs are started at once: each is a process, and a lab may have hundreds. */
const BATCH = 16;

/** Starts a lab: every node has its BMC and is off. Whatever was started is ended again when something fails. */
export async function createLab(options: LabOptions): Promise<Lab> {
  const dir = resolve(options.dir);
  checkNames(options.nodes);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  // Fails when it is there already: the clean-up below must never meet another lab's nodes.
  await mkdir(join(dir, 'nodes'));
  try {
    const network = options.network === 'netns' ? await networkOf(dir, options.nodes.length) : undefined;
    const ports = network ? [] : await freeUdpPorts(options.nodes.length);
    const description: LabDescription = { nodes: [], network };
    for (let first = 0; first < options.nodes.length; first += BATCH) {
      const batch = options.nodes.slice(first, first + BATCH).map((request, index) => {
        const place = first + index;
        const where = network
          ? { address: network.bmcAddresses[place] ?? '', port: 623, netns: network.namespace }
          : { address: '127.0.0.1', port: ports[place] ?? 0 };
        return startNode(dir, request, nodeNetwork(options, network, place), where);
      });
      description.nodes.push(...(await Promise.all(batch)));
    }
    await writeFile(join(dir, 'lab.json'), JSON.stringify(description), { mode: 0o600 });
    return labOf(dir, description);
  } catch (error) {
    await destroyLab(dir);
    throw error;
  }
}

/** The lab that another process made in `dir`. */
export async function openLab(dir: string): Promise<Lab> {
  const file = join(resolve(dir), 'lab.json');
  return labOf(resolve(dir), JSON.parse(await readFile(file, 'utf8')) as LabDescription);
}

/**
 * Powers everything off and removes the lab and its directory. Needs only the directory, works from any process, and is
 * safe to repeat.
 */
export async function destroyLab(labDir: string): Promise<void> {
  const dir = resolve(labDir);
  const names = await readdir(join(dir, 'nodes')).catch(() => []);
  // The BMCs, their power scripts (which have the node's directory as an argument) and the machines.
  const marks = (name: string) => [bmcMark(bmcDir(dir, name)), nodeDir(dir, name), qemuMark(nodeDir(dir, name))];
  await ensureNoProcessWith(names.flatMap(marks));
  const namespace = await readFile(join(dir, 'namespace'), 'utf8').catch(() => undefined);
  if (namespace) await destroyLabNetwork(namespace);
  await rm(dir, { recursive: true, force: true });
}

function checkNames(nodes: LabNodeRequest[]): void {
  const names = nodes.map((node) => node.name);
  const wrong = names.find((name, index) => !/^[a-z0-9][\w.-]{0,62}$/i.test(name) || names.indexOf(name) !== index);
  if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)} cannot be the name of a node, or is there twice`);
}

async function networkOf(dir: string, nodes: number): Promise<LabNetwork> {
  const namespace = newNamespaceName();
  // Before the namespace is there: `destroyLab` must find it whenever this process dies.
  await writeFile(join(dir, 'namespace'), namespace);
  return createLabNetwork(nodes, namespace);
}

function nodeNetwork(options: LabOptions, network: LabNetwork | undefined, place: number): NodeNetwork {
  if (options.network === 'user') return { kind: 'user', bootUrl: options.bootUrl };
  return { kind: 'tap', tap: network?.taps[place] ?? '', netns: network?.namespace };
}

async function startNode(
  labDir: string,
  request: LabNodeRequest,
  network: NodeNetwork,
  where: { address: string; port: number; netns?: string },
): Promise<LabDescription['nodes'][number]> {
  const { name, firmware = 'bios', memoryMiB, mac = macOf(labDir, name) } = request;
  const dir = nodeDir(labDir, name);
  const serialLog = join(dir, 'serial.log');
  await mkdir(dir, { mode: 0o700 });
  await writeFile(serialLog, '');
  if (firmware !== 'none') await prepareQemuNode({ dir, name, mac, memoryMiB, firmware, network, serialLog });
  const account = { user: 'admin', password: randomBytes(8).toString('hex') };
  const bmc = await startBmc({ dir: bmcDir(labDir, name), name, ...where, ...account, nodeDir: dir });
  return { name, mac, bmc, serialLog };
}

/** 52:54:00 is what QEMU's machines have; the rest tells labs on one network apart. */
function macOf(labDir: string, name: string): string {
  const digest = createHash('sha256').update(`${labDir}\0${name}`).digest('hex');
  return `52:54:00:${digest.slice(0, 2)}:${digest.slice(2, 4)}:${digest.slice(4, 6)}`;
}

function labOf(dir: string, description: LabDescription): Lab {
  return {
    nodes: description.nodes.map((node) => ({
      ...node,
      running: () => isPoweredOn(nodeDir(dir, node.name)),
      bootDevice: async () =>
        (await readFile(join(nodeDir(dir, node.name), 'boot'), 'utf8').catch(() => undefined))?.trim(),
      told: async () =>
        (await readFile(join(nodeDir(dir, node.name), 'told'), 'utf8').catch(() => '')).split('\n').filter(Boolean),
      setBmcMode: (mode) => setBmcMode(bmcDir(dir, node.name), nodeDir(dir, node.name), mode),
    })),
    network: description.network,
    describe: () => description,
    destroy: () => destroyLab(dir),
  };
}
