import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { sentenceOf } from '@m2/contracts';
import { z } from 'zod';

/** The configuration is wrong; the message lists every field, its name in the environment and what is wrong with it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const listen = z
  .string()
  .regex(/^[^\s:]+:\d{1,5}$/, 'must be HOST:PORT')
  .transform((value) => ({ host: value.split(':')[0] as string, port: Number(value.split(':')[1]) }));

const natsServers = /^(nats|tls):\/\/[^\s,/]+(,(nats|tls):\/\/[^\s,/]+)*$/;

const tlsByAddress = /tls:\/\/(\d+\.\d+\.\d+\.\d+|\[)/;

/** What every service needs. A secret is best given as `<NAME>_FILE`, the path of a file that holds it. */
export const baseConfig = z.object({
  databaseUrl: z.string().startsWith('postgres'),
  databasePassword: z.string().min(1).optional(),
  databasePoolSize: z.coerce.number().int().min(3).max(200).default(12),
  /** Name of this replica, another one for each that runs; one that comes back under its name takes up at once what it had. */
  instance: z.string().min(1).default(hostname()),
  /** Commands that are carried out at the same time; more wait. */
  commandConcurrency: z.coerce.number().int().min(1).max(1000).default(32),
  /** The servers of one cluster, separated by commas; `tls://NAME:PORT` for TLS. */
  natsUrl: z
    .string()
    .regex(natsServers, 'must be nats://HOST:PORT or tls://HOST:PORT, more of them separated by commas')
    // The client would check the certificate of an address against the name "localhost".
    .refine((url) => !tlsByAddress.test(url), 'must give the name of a server with TLS, and no address'),
  natsPassword: z.string().min(1).optional(),
  /** Certificates (PEM) of who vouches for NATS's; by default those that the system trusts. */
  natsCa: z.string().startsWith('-----BEGIN CERTIFICATE-----').optional(),
  /** 32 random bytes in hexadecimal: the key of what is encrypted at rest. */
  secretKey: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits (32 bytes)'),
  /** Where health, readiness and metrics are served; not for tenants. */
  opsListen: listen.prefault('127.0.0.1:0'),
  /** Days for which what has ended is kept: operations and their steps, provisions, revoked tokens (gateway), exports of images (image). */
  retentionDays: z.coerce.number().int().min(1).default(90),
  /** Directory to which operations, provisions and events are written, as JSON lines, before they are deleted; not set: they are only deleted. */
  retentionDirectory: z.string().min(1).optional(),
  otlpEndpoint: z.url().optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
});
export type BaseConfig = z.infer<typeof baseConfig>;
export const listenAddress = listen;

const environmentName = (key: string) => `M2_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

/**
 * Reads the configuration from the JSON file that `M2_CONFIG` names and from the environment, which wins (`databaseUrl` is
 * `M2_DATABASE_URL`; `M2_DATABASE_PASSWORD_FILE` names a file to read the value from).
 * Throws ConfigError.
 */
export function loadConfig<S extends z.ZodObject>(schema: S, env: NodeJS.ProcessEnv = process.env): z.infer<S> {
  const values: Record<string, unknown> = env['M2_CONFIG'] ? readJson(env['M2_CONFIG']) : {};
  for (const key of Object.keys(schema.shape)) {
    const variable = environmentName(key);
    const file = env[`${variable}_FILE`];
    // A compose file passes an empty value for a variable that nobody set.
    if (env[variable]) values[key] = env[variable];
    else if (file) values[key] = read(file, `${variable}_FILE`).trim();
  }
  const parsed = schema.safeParse(values, { error: sentenceOf });
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const key = String(issue.path[0] ?? '');
    const given = values[key] === undefined ? 'is not set' : issue.message;
    return `  ${environmentName(key)}: ${given}`;
  });
  throw new ConfigError(
    `The configuration is not right:\n${lines.join('\n')}\nSet these in the environment, or in the JSON file that M2_CONFIG names.`,
  );
}

function readJson(path: string): Record<string, unknown> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(read(path, 'M2_CONFIG')));
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${path} (named by M2_CONFIG) is not a JSON object`, { cause: error });
  }
}

function read(path: string, variable: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`${path} (named by ${variable}) cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
