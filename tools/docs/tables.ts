import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import { completionTree } from '../../apps/cli/src/completion/tree.js';
import { buildProgram } from '../../apps/cli/src/program.js';
import type { World } from '../../apps/cli/src/world.js';
import { portsOf } from '../../apps/supervisor/src/options.js';
import { type DebianPackage, servicePackages } from '../../apps/supervisor/src/packages.js';
import { labPackages } from '../../lab/src/debian-packages.js';
import { allRoutes, errorCatalogue, events } from '../../libs/contracts/src/index.js';
import { baseConfig } from '../../libs/service-kit/src/config.js';
import { gatewayConfig } from '../../services/api-gateway/src/config.js';
import { bootConfiguration } from '../../services/boot-svc/src/config.js';
import { hilConfig } from '../../services/hil-adapter/src/config.js';
import { imageConfig } from '../../services/image-svc/src/config.js';
import { iscsiConfig } from '../../services/iscsi-svc/src/config.js';
import { code, table } from './markdown.js';

const everyone = 'anybody, without a token';

export const routeTable = (): string =>
  table(
    ['Route', 'What it does', 'Roles', 'Answers', 'Errors of its own'],
    allRoutes.map(({ method, path, allow, status, useCase: { summary, followed, errors } }) => [
      code(`${method} ${path}`),
      `${summary}${followed ? ' (SSE)' : ''}`,
      allow === 'public' ? everyone : allow.join(', '),
      String(status),
      errors.map(code).join(', '),
    ]),
  );

const triedAgain = { transient: 'until the deadline', absent: 'waited for', bug: 'a few times', final: '' };

export const errorTable = (): string =>
  table(
    ['Code', 'Status', 'What is wrong', 'What to do', 'Tried again by itself'],
    Object.entries(errorCatalogue).map(([name, kind]) => [
      code(name),
      String(kind.status),
      kind.title,
      kind.remedy,
      triedAgain[kind.retry],
    ]),
  );

export const eventTable = (): string =>
  table(
    ['Type', 'What happened', 'Data'],
    events.map(({ type, summary, data }) => [
      code(type),
      summary,
      Object.keys((data as z.ZodObject).shape)
        .map(code)
        .join(', '),
    ]),
  );

const serviceConfigs = [
  { name: 'every service', file: 'libs/service-kit/src/config.ts', schema: baseConfig },
  { name: 'gateway', file: 'services/api-gateway/src/config.ts', schema: gatewayConfig },
  { name: 'image', file: 'services/image-svc/src/config.ts', schema: imageConfig },
  { name: 'iscsi', file: 'services/iscsi-svc/src/config.ts', schema: iscsiConfig },
  { name: 'boot', file: 'services/boot-svc/src/config.ts', schema: bootConfiguration },
  { name: 'hil', file: 'services/hil-adapter/src/config.ts', schema: hilConfig },
];

interface JsonField {
  default?: unknown;
}

/** Settings that a service adds to those of every service, or changes. */
function ownFields({ name, schema }: (typeof serviceConfigs)[number]): string[] {
  const common: Record<string, unknown> = baseConfig.shape;
  return Object.entries<unknown>(schema.shape)
    .filter(([key, value]) => name === 'every service' || common[key] !== value)
    .map(([key]) => key);
}

const variableOf = (key: string) => `M2_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

/** Settings whose names say it to who reads the source, and not to who sets them. */
const plainWords: Record<string, string> = {
  databaseUrl: "PostgreSQL's address, `postgres://USER@HOST/m2`, with the service's own role as the user.",
  databasePassword: 'The password of that role.',
  databasePoolSize: 'Connections to PostgreSQL, at most.',
  natsUrl: "NATS' address, `nats://HOST:4222`. The user is `m2-` and the service's name.",
  natsPassword: 'The password of that user.',
  otlpEndpoint: 'Where traces are sent (OTLP over HTTP), without `/v1/traces`.',
  logLevel: '`trace`, `debug`, `info`, `warn` or `error`.',
  listen: 'Where the API listens.',
  storageDirectory: 'Images and disks.',
  portalPortBase: 'The first port of a portal; others follow it.',
};

/** The doc comment of a field, as its source has it; several lines become one. */
function commentOf(source: string, key: string): string {
  const comment = new RegExp(`/\\*\\*((?:(?!\\*/)[^])*)\\*/\\s*${key}:`).exec(source)?.[1] ?? plainWords[key] ?? '';
  if (comment === '') throw new Error(`The setting ${key} has no doc comment to be explained with`);
  return comment.replaceAll(/\s*\n\s*\*\s*/g, ' ').trim();
}

function defaultOf(field: JsonField | undefined, required: boolean): string {
  if (required) return 'required';
  if (field?.default === undefined) return 'not set';
  if (field.default === hostname()) return "the machine's host name";
  return field.default === '' ? 'empty' : code(String(field.default));
}

export const configTable = (): string =>
  table(
    ['Variable', 'Service', 'Default', 'What it is'],
    serviceConfigs.flatMap((config) => {
      const source = readFileSync(new URL(`../../${config.file}`, import.meta.url), 'utf8');
      const { properties = {}, required = [] } = z.toJSONSchema(config.schema, { io: 'input', unrepresentable: 'any' });
      return ownFields(config).map((key) => [
        code(variableOf(key)),
        config.name,
        defaultOf(properties[key] as JsonField | undefined, required.includes(key)),
        commentOf(source, key),
      ]);
    }),
  );

export function portTable(): string {
  const ports = portsOf(7400);
  const ops = Object.entries(ports.ops).map(([service, port]) => [port, `health and metrics of ${service}`] as const);
  const rows = [
    [ports.gateway, 'the API'],
    [ports.boot, 'the boot server, for nodes'],
    [ports.nats, 'NATS'],
    ...ops,
    [ports.portals, 'the first iSCSI portal, for nodes; more follow, one for each project with exports, and a spare'],
  ] as const;
  return table(
    ['Port', 'What for'],
    rows.map(([port, what]) => [String(port), what]),
  );
}

function packageTable(packages: DebianPackage[]): string {
  const rows = packages.map(({ name, job }) => [code(name), job]);
  const names = packages.map(({ name }) => name).join(' ');
  const install = `apt-get update && apt-get install --no-install-recommends ${names}`;
  return `${table(['Debian package', 'What for'], rows)}\n\n\`\`\`sh\n${install}\n\`\`\``;
}
export const servicePackageTable = (): string => packageTable(servicePackages);
export const labPackageTable = (): string => packageTable(labPackages);

const nobody: World = {
  env: {},
  home: '/',
  cwd: '/',
  stdin: process.stdin,
  stdout: { write: () => true },
  stderr: { write: () => true },
  onInterrupt: () => () => {},
};

/** Every word of the command line that can be given, with its options. */
export const commands = () => completionTree(buildProgram(nobody)).filter(({ path }) => !/(^|\s)help$/.test(path));

/** Those that do something themselves, and are not just the noun before a verb. */
export const actions = () =>
  commands().filter(({ path, children, args }) => path !== '' && (children.length === 0 || args.length > 0));

export const commandTable = (): string =>
  table(
    ['Command', 'What it does'],
    actions().map(({ path, description }) => [code(`m2 ${path}`), description]),
  );
