import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { SupervisorError } from './errors.js';
import { writePrivate } from './secrets.js';
import type { Paths } from './state.js';
import { refuseOtherStorage, storage } from './storage.js';

const host = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.-]*$/, 'must be an IPv4 address or a host name');

/** How many ports from the base port on belong to M2 itself; iSCSI portals follow from `portalOffset` on. */
const lastPort = 65_535 - 100;
const portalOffset = 20;

/** What an installation is started with, and is remembered in its state directory for the next start. */
export const settings = z.object({
  /** The first of the ports: see `portsOf`. */
  port: z.int().min(1024).max(lastPort).default(7400),
  /** Where the API listens. */
  listen: host.default('127.0.0.1'),
  /** Where the nodes' side listens: boot HTTP and iSCSI portals. */
  provisioningAddress: host.default('127.0.0.1'),
  /** What nodes are told to reach us at; as provisioningAddress when absent. */
  advertise: host.optional(),
  /** DHCP and TFTP for a network that M2 owns. */
  dhcp: z.object({ interface: z.string().regex(/^[\w.-]{1,15}$/), range: z.string().regex(/^[\d.,]+$/) }).optional(),
  /** Folders that images may be imported from. */
  importDirectories: z
    .array(
      z
        .string()
        .startsWith('/')
        .regex(/^[^:]*$/),
    )
    .default([]),
  /** Hosts that images may be downloaded from. */
  importHosts: z.array(z.string().regex(/^[^,\s]+$/)).default([]),
  /** Pools and namespaces whose volumes tenants may import from and export to. */
  foreignVolumes: z.array(z.string().regex(/^[^,\s]+$/)).default([]),
  /** Where images and disks are kept; does not change once there is a database that speaks of them. */
  storage: storage.default({ kind: 'file' }),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
});
export type Settings = z.infer<typeof settings>;
export type GivenSettings = z.input<typeof settings>;

/** Every port of an installation, from its base port. */
export const portsOf = (base: number) => ({
  gateway: base,
  boot: base + 1,
  nats: base + 2,
  /** Health and metrics of each service. */
  ops: { gateway: base + 3, image: base + 4, iscsi: base + 5, boot: base + 6, hil: base + 7 },
  /** The first iSCSI portal; iscsi-svc takes as many from here on as it has tgtd processes. */
  portals: base + portalOffset,
});

/**
 * The settings of this start: those of the last one, replaced where `given` names others. They are remembered.
 * Throws `supervisor.bad_option`.
 */
export function resolveSettings(paths: Paths, given: GivenSettings): Settings {
  const { wanted, resolved } = planSettings(paths, given);
  writePrivate(paths.config, `${JSON.stringify(wanted, null, 2)}\n`);
  return resolved;
}

/** What `resolveSettings` would return, without remembering it. Throws `supervisor.bad_option`. */
export function planSettings(paths: Paths, given: GivenSettings): { wanted: GivenSettings; resolved: Settings } {
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const saved = readSaved(paths);
  const wanted = { ...saved, ...chosen };
  const parsed = settings.safeParse(wanted);
  if (!parsed.success) throw badOption(z.prettifyError(parsed.error));
  refuseOtherStorage(paths, settings.parse(saved).storage, parsed.data.storage);
  return { wanted, resolved: parsed.data };
}

/** The settings of the last start. Throws `supervisor.bad_option` when their file was damaged. */
export function savedSettings(paths: Paths): Settings {
  return settings.parse(readSaved(paths));
}

function readSaved(paths: Paths): GivenSettings {
  let text: string;
  try {
    text = readFileSync(paths.config, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  try {
    settings.parse(JSON.parse(text));
    return JSON.parse(text) as GivenSettings;
  } catch (error) {
    throw badOption(`${paths.config}: ${error instanceof z.ZodError ? z.prettifyError(error) : String(error)}`);
  }
}

const badOption = (detail: string) =>
  new SupervisorError('supervisor.bad_option', `The settings are not valid: ${detail}`, 'Correct what is named.');
