import { z } from 'zod';
import { id, iqn, label, mac, name, sentence, text, time } from './fields.js';
import { command, event, query } from './message.js';

export const bootReport = z.object({
  /** The root device that the node's operating system says it runs from. */
  root: text.max(256).optional(),
  kernel: text.max(256).optional(),
  boots: z.coerce.number().int().nonnegative().optional(),
  marker: text.max(256).optional(),
  address: text.max(64).optional(),
});

/** The boot in progress of one nic: what its firmware is told, and how far it came. */
export const bootConfig = z.object({
  id,
  project: id,
  provision: id,
  node: id,
  mac,
  exportId: id,
  state: z.enum(['armed', 'script_served', 'booted']),
  createdAt: time,
  scriptServedAt: time.nullable(),
  bootedAt: time.nullable(),
  report: bootReport.nullable(),
});
export type BootConfig = z.infer<typeof bootConfig>;

export const bootConfigCreate = command(
  'boot.config.create',
  'Arms the boot of one nic from one export; refused while another boot of that nic is armed',
  z.object({ configId: id, project: id, provision: id, node: id, nodeName: name, mac, exportId: id, initiator: iqn }),
  bootConfig,
);

export const bootConfigDelete = command(
  'boot.config.delete',
  'Takes the boot configuration of a nic away; one that is not there is fine',
  z.object({ configId: id, project: id }),
  z.object({}),
);

export const bootConfigShow = query(
  'boot.config.show',
  'How far a boot is',
  z.object({ project: id, configId: id }),
  bootConfig,
);

const bootRef = z.object({ id, project: id, provision: id, node: id, mac });
export const bootScriptServed = event('boot.config.served', "A node's firmware fetched its boot script", bootRef);
export const bootRefused = event(
  'boot.config.refused',
  'Somebody asked for the script of a nic and did not get it',
  bootRef.extend({ reason: sentence, from: label }),
);
export const nodeBooted = event(
  'boot.node.booted',
  "A node's own operating system phoned home",
  bootRef.extend({ report: bootReport }),
);
