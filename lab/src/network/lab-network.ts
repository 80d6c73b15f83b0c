import { randomBytes } from 'node:crypto';
import { CommandFailed, run } from '../process/run.js';

/** A network of a lab's own. All nodes, BMCs and the M2 server meet on one bridge in one /24. */
export interface LabNetwork {
  /** The network namespace that holds the bridge, the taps and the BMCs' addresses. */
  namespace: string;
  /** The interface in the root namespace where the M2 server serves DHCP, HTTP and iSCSI, and its address. */
  serverInterface: string;
  serverAddress: string;
  /** The whole network, such as 10.77.5.0/24. */
  subnet: string;
  /** For the DHCP server, which is not the lab's: addresses that nothing else here uses. */
  dhcpRange: { from: string; to: string };
  /** The tap of each node, by its place in the list of nodes. */
  taps: string[];
  /** An address of its own for each node's BMC. */
  bmcAddresses: string[];
}

const BRIDGE = 'br0';
/** .1 is the server, .10–.119 are nodes by DHCP, .120–.239 are BMCs. */
export const MAX_NODES = 110;

/** A name that no other lab has. */
export const newNamespaceName = (): string => `m2lab-${randomBytes(5).toString('hex')}`;

/**
 * Makes the network for `nodes` nodes. Needs root. Everything is in a namespace with a name of its own, except for one
 * end of a veth pair; that end's name carries the number of the /24, so that the kernel itself refuses a second taker.
 */
export async function createLabNetwork(nodes: number, namespace = newNamespaceName()): Promise<LabNetwork> {
  if (nodes > MAX_NODES) throw new Error(`A lab network has room for ${MAX_NODES} nodes, not for ${nodes}`);
  await run('ip', ['netns', 'add', namespace]);
  try {
    const net = await takeSubnet(namespace);
    const at = (host: number) => `10.77.${net}.${host}`;
    const network: LabNetwork = {
      namespace,
      serverInterface: `m2lab${net}`,
      serverAddress: at(1),
      subnet: `${at(0)}/24`,
      dhcpRange: { from: at(10), to: at(10 + MAX_NODES - 1) },
      taps: Array.from({ length: nodes }, (_, index) => `tap${index}`),
      bmcAddresses: Array.from({ length: nodes }, (_, index) => at(120 + index)),
    };
    await ipBatch(insideCommands(network), ['-n', namespace]);
    const server = network.serverInterface;
    await ipBatch([
      `addr add ${network.serverAddress}/24 dev ${server}`,
      // iPXE waits 13 s for an IPv6 router at each boot, and a router without an address of its own never speaks.
      `addr add fd77:6d32:${net.toString(16)}::1/64 dev ${server} nodad`,
      `link set ${server} up`,
    ]);
    return network;
  } catch (error) {
    await destroyLabNetwork(namespace);
    throw error;
  }
}

/** Removes a lab's namespace and all that is in it. Safe to repeat; refuses while a process still runs in there. */
export async function destroyLabNetwork(namespace: string): Promise<void> {
  const known = (await run('ip', ['netns', 'list'])).split('\n').map((line) => line.split(' ')[0]);
  if (!known.includes(namespace)) return;
  const pids = (await run('ip', ['netns', 'pids', namespace])).split('\n').filter(Boolean);
  if (pids.length > 0) throw new Error(`Processes ${pids.join(', ')} still run in the namespace ${namespace}`);
  // The kernel takes a namespace apart in the background: the veth's end in the root namespace must go right now.
  await run('ip', ['-n', namespace, 'link', 'delete', 'server']).catch(() => {});
  await run('ip', ['netns', 'delete', namespace]);
}

/** Makes the veth pair `m2lab<n>` (root) – `server` (namespace) for the first n whose /24 nobody uses. */
async function takeSubnet(namespace: string): Promise<number> {
  for (let tries = 0; tries < 50; tries += 1) {
    const net = randomBytes(1).readUInt8();
    const routed = await run('ip', ['-4', 'route', 'show', `10.77.${net}.0/24`]);
    if (routed.trim()) continue;
    const pair = ['link', 'add', `m2lab${net}`, 'type', 'veth', 'peer', 'name', 'server', 'netns', namespace];
    const taken = await run('ip', pair).then(
      () => false,
      (error: unknown) => {
        if (error instanceof CommandFailed && error.message.includes('File exists')) return true;
        throw error;
      },
    );
    if (!taken) return net;
  }
  throw new Error('Found no free network among 10.77.0.0/16: destroy the labs that nobody uses');
}

/** Without a forwarding delay: a bridge's port is deaf for its first 15 s otherwise, and DHCP gives up. */
function insideCommands(network: LabNetwork): string[] {
  return [
    'link set lo up',
    `link add ${BRIDGE} type bridge forward_delay 0 stp_state 0`,
    `link set ${BRIDGE} up`,
    `link set server master ${BRIDGE} up`,
    ...network.taps.flatMap((tap) => [`tuntap add ${tap} mode tap`, `link set ${tap} master ${BRIDGE} up`]),
    ...network.bmcAddresses.map((address) => `addr add ${address}/24 dev ${BRIDGE}`),
  ];
}

async function ipBatch(commands: string[], args: string[] = []): Promise<void> {
  await run('ip', [...args, '-batch', '-'], { input: `${commands.join('\n')}\n` });
}
