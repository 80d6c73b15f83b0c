import { z } from 'zod';
import { id, label, mac, name, nameOrId, page, pageOf, reason, time } from './fields.js';
import { command, event, query } from './message.js';

/** No value that reaches a tool's argument list may look like an option. */
const hostLabel = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const hostName = z
  .string()
  .max(253)
  .regex(new RegExp(`^${hostLabel}(?:\\.${hostLabel})*$`));
const host = z.union([z.ipv4(), z.ipv6(), hostName], 'must be an IP address or a host name');
const plain = z
  .string()
  .max(64)
  .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces');

export const bmc = z.object({
  driver: z.literal('ipmi').default('ipmi'),
  address: host,
  port: z.int().min(1).max(65535).default(623),
  /** IPMI 2.0 keeps 16 bytes (section 22.28). */
  user: plain.max(16).regex(/^[^-]/, 'must not start with a dash'),
  /** IPMI 2.0 keeps 20 bytes (section 22.30). */
  password: z
    .string()
    .min(1)
    .max(20)
    .regex(/^[\x20-\x7e]+$/, 'must be printable ASCII'),
  /** IPMI cipher suites in the order to try them: 17 is SHA-256, 3 is what every BMC has. */
  cipherSuites: z.array(z.int().min(1).max(17)).min(1).max(4).default([17, 3]),
});

export type Bmc = z.infer<typeof bmc>;

export const nic = z.object({ label: name, mac });

export const node = z.object({
  id,
  name,
  /** The only project that may use it; null: any project may. */
  project: id.nullable(),
  nics: z.array(nic).max(16),
  firmware: z.enum(['bios', 'uefi']),
  bmc: bmc.omit({ password: true }),
  /** The provision that holds it. */
  holder: id.nullable(),
  /** The project of the holder. */
  holderProject: id.nullable(),
  /** A person marked it broken: nobody gets it. */
  broken: z.object({ reason, by: label, since: time }).nullable(),
  createdAt: time,
});
export type Node = z.infer<typeof node>;

export const nodeSpec = z.object({
  name,
  project: id.nullable().default(null),
  nics: z.array(nic).min(1).max(16),
  firmware: z.enum(['bios', 'uefi']).default('bios'),
  bmc,
});

export const nodeRegister = command('hil.node.register', 'Makes a node known', nodeSpec.extend({ nodeId: id }), node);
export const nodeSetBmc = command(
  'hil.node.set-bmc',
  'Changes how a node is powered',
  z.object({ nodeId: id, bmc }),
  node,
);
export const nodeRemove = command(
  'hil.node.remove',
  'Forgets a node that nobody holds',
  z.object({ nodeId: id }),
  z.object({}),
);

const decision = z.object({ nodeId: id, by: label, reason });
export const nodeMarkBroken = command(
  'hil.node.mark-broken',
  'Keeps a node from everybody until it is marked repaired; who holds it goes on holding it',
  decision,
  node,
);
export const nodeMarkRepaired = command(
  'hil.node.mark-repaired',
  'Gives a node that was marked broken free to be used',
  decision,
  node,
);

export const nodeReserve = command(
  'hil.node.reserve',
  'Gives a node to one provision; refused while another holds it, or while it is marked broken',
  z.object({ nodeId: id, project: id, holder: id }),
  node,
);
export const nodeRelease = command(
  'hil.node.release',
  'Takes a node back from a provision; a reservation that is not there is fine',
  z.object({ nodeId: id, holder: id }),
  z.object({}),
);

/** `project` absent: all nodes (for operators); else those that the project may use. */
export const nodeShow = query('hil.node.show', 'One node', z.object({ node: nameOrId, project: id.optional() }), node);
export const nodeList = query(
  'hil.node.list',
  'Nodes, by name: all, or those that a project may use, or its own',
  page.extend({ project: id.optional(), own: z.boolean().optional() }),
  pageOf(node),
);

export const networkAttach = command(
  'hil.network.attach',
  "Puts a node's nic into a network",
  z.object({ nodeId: id, holder: id, nic: name, network: name }),
  z.object({}),
);
export const networkDetach = command(
  'hil.network.detach',
  "Takes a node's nic out of a network",
  z.object({ nodeId: id, holder: id, nic: name, network: name }),
  z.object({}),
);

export const powerBoot = command(
  'hil.power.boot',
  'Sets the next boot to network and powers the node on, from observed off; returns when it is observed on',
  z.object({ nodeId: id, holder: id }),
  z.object({}),
);
export const powerOff = command(
  'hil.power.off',
  'Powers a node off, and returns when it was observed off',
  z.object({ nodeId: id, holder: id }),
  z.object({}),
);
export const powerShow = query(
  'hil.power.show',
  'Asks the BMC for the power state',
  z.object({ nodeId: id }),
  z.object({ power: z.enum(['on', 'off']) }),
);

const nodeRef = z.object({ id, name });
const held = nodeRef.extend({ project: id, holder: id });
export const nodeRegistered = event('hil.node.registered', 'A node is known now', nodeRef);
export const nodeChanged = event('hil.node.changed', "A node's BMC was changed", nodeRef);
export const nodeRemoved = event('hil.node.removed', 'A node was forgotten', nodeRef);
const decided = nodeRef.extend({ by: label, reason });
export const nodeMarkedBroken = event('hil.node.marked-broken', 'A person marked a node broken', decided);
export const nodeMarkedRepaired = event('hil.node.marked-repaired', 'A person marked a node repaired', decided);
export const nodeReserved = event('hil.node.reserved', 'A provision holds a node', held);
export const nodeReleased = event('hil.node.released', 'A node is free again', held);
export const networkAttached = event(
  'hil.network.attached',
  'A nic is in a network',
  held.extend({ nic: name, network: name }),
);
export const networkDetached = event(
  'hil.network.detached',
  'A nic left a network',
  held.extend({ nic: name, network: name }),
);
export const powerTurnedOn = event('hil.power.on', 'A node was powered on to boot from the network', held);
export const powerTurnedOff = event('hil.power.off', 'A node was observed off', held);
