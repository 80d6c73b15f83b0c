import { type ServiceName, serviceNames } from '@m2/contracts';
import { get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { ChildSpec, Health } from './child.js';
import { portsOf, type Settings } from './options.js';
import { Postgres } from './postgres.js';
import { markVariable } from './processes.js';
import { secretFiles } from './secrets.js';
import type { Paths } from './state.js';
import { storageEnvironment } from './storage.js';

/** The program of each service. */
export const serviceMains: Record<ServiceName, string> = {
  gateway: mainOf('api-gateway'),
  image: mainOf('image-svc'),
  iscsi: mainOf('iscsi-svc'),
  boot: mainOf('boot-svc'),
  hil: mainOf('hil-adapter'),
};

function mainOf(folder: string): string {
  return fileURLToPath(new URL(`../../../services/${folder}/dist/main.js`, import.meta.url));
}

/** What services get of our own environment; the rest may hold secrets of whoever started us. */
const passedOn = [
  'HOME',
  'LANG',
  'TZ',
  'TMPDIR',
  'NODE_EXTRA_CA_CERTS',
  'M2_OTLP_ENDPOINT',
  'M2_RETENTION_DAYS',
  'M2_RETENTION_DIRECTORY',
  'M2_AUDIT_DAYS',
];
/** Calls under way may end; a service that takes longer than this hangs. One that only starts has none. */
const stopDeadlineMs = { ready: 20_000, starting: 2_000 };
/** The only network that there is so far: all nodes in one. */
const network = 'flat';

export type ServiceEnvironments = Partial<Record<ServiceName, Record<string, string>>>;

/** The five services as processes: `mains` and `extra` (more environment for one) are for tests. */
export function serviceSpecs(
  paths: Paths,
  settings: Settings,
  mains: Record<ServiceName, string>,
  extra: ServiceEnvironments,
): Record<ServiceName, ChildSpec> {
  const ports = portsOf(settings.port);
  const doors: Partial<Record<ServiceName, number>> = { gateway: ports.gateway, boot: ports.boot };
  const specs = serviceNames.map((name): [ServiceName, ChildSpec] => [
    name,
    {
      name,
      command: process.execPath,
      package: 'nodejs',
      args: [mains[name]],
      env: { ...commonEnvironment(paths, settings, name), ...ownEnvironment(paths, settings)[name], ...extra[name] },
      port: doors[name] ?? ports.ops[name],
      health: () => healthOf(ports.ops[name]),
      stopSignal: 'SIGTERM',
      stopDeadlineMs,
    },
  ]);
  return Object.fromEntries(specs) as Record<ServiceName, ChildSpec>;
}

function commonEnvironment(paths: Paths, settings: Settings, name: ServiceName): Record<string, string> {
  const files = secretFiles(paths);
  const ports = portsOf(settings.port);
  const inherited = passedOn.flatMap((key) => (process.env[key] === undefined ? [] : [[key, process.env[key]]]));
  return {
    ...(Object.fromEntries(inherited) as Record<string, string>),
    // Debian keeps tgtd and dnsmasq in sbin, which is not in users' PATH.
    PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
    NODE_ENV: 'production',
    [markVariable]: paths.state,
    M2_DATABASE_URL: Postgres.url(paths, name),
    M2_DATABASE_PASSWORD_FILE: files.database(name),
    M2_NATS_URL: `nats://127.0.0.1:${ports.nats}`,
    M2_NATS_PASSWORD_FILE: files.nats(name),
    M2_SECRET_KEY_FILE: files.secretKey,
    M2_OPS_LISTEN: `127.0.0.1:${ports.ops[name]}`,
    M2_LOG_LEVEL: settings.logLevel,
  };
}

function ownEnvironment(paths: Paths, settings: Settings): Record<ServiceName, Record<string, string>> {
  const ports = portsOf(settings.port);
  const inside = settings.provisioningAddress;
  const advertised = settings.advertise ?? inside;
  return {
    gateway: {
      M2_LISTEN: `${settings.listen}:${ports.gateway}`,
      M2_ADMIN_TOKEN_FILE: paths.adminToken,
      M2_NETWORK: network,
    },
    image: {
      ...storageEnvironment(paths, settings.storage),
      M2_STORAGE_DIRECTORY: paths.storage,
      M2_IMPORT_DIRECTORIES: settings.importDirectories.join(':'),
      M2_IMPORT_HOSTS: settings.importHosts.join(','),
      M2_FOREIGN_VOLUMES: settings.foreignVolumes.join(','),
    },
    iscsi: {
      ...storageEnvironment(paths, settings.storage),
      M2_TARGET_DIRECTORY: paths.targets,
      M2_PORTAL_ADDRESSES: inside,
      M2_PORTAL_ADVERTISED: advertised,
      M2_PORTAL_PORT_BASE: String(ports.portals),
    },
    boot: {
      M2_BOOT_LISTEN: `${inside}:${ports.boot}`,
      M2_BOOT_URL: `http://${advertised}:${ports.boot}`,
      M2_BOOT_DIRECTORY: paths.boot,
      ...(settings.dhcp && { M2_DHCP_INTERFACE: settings.dhcp.interface, M2_DHCP_RANGE: settings.dhcp.range }),
    },
    hil: { M2_FLAT_NETWORK: network, M2_BMC_DIRECTORY: paths.bmc },
  };
}

const answerDeadlineMs = 5_000;

/** Asks a service's `/readyz`; the answer names the parts that it waits for, and what is wrong all the same. */
function healthOf(port: number): Promise<Health> {
  const { promise, resolve } = Promise.withResolvers<Health>();
  const signal = AbortSignal.timeout(answerDeadlineMs);
  const request = get({ host: '127.0.0.1', port, path: '/readyz', signal }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('data', (part: string) => (body += part));
    response.on('end', () =>
      resolve(
        response.statusCode === 200 ? { is: 'ready', alarms: alarmsIn(body) } : { is: 'waiting', for: partsIn(body) },
      ),
    );
    response.on('error', () => resolve(silent));
  });
  request.on('error', ({ code }: NodeJS.ErrnoException) =>
    resolve(code === 'ECONNREFUSED' ? { is: 'absent', for: 'its start' } : silent),
  );
  return promise;
}

const silent: Health = { is: 'silent', for: 'an answer from /readyz' };

const texts = z.record(z.string(), z.string());
const answer = z.object({ parts: texts.default({}), alarms: texts.default({}) }).catch({ parts: {}, alarms: {} });
const read = (body: string) => answer.parse(parseJson(body));
const alarmsIn = (body: string): string[] => Object.values(read(body).alarms);
const partsIn = (body: string): string => {
  const waits = Object.entries(read(body).parts).filter(([, state]) => state !== 'ok');
  return waits.map(([name, state]) => `${name} (${state})`).join(', ') || 'its parts';
};

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
