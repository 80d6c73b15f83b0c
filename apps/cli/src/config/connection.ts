import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { CliError, usageError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import type { World } from '../world.js';
import { loginPath, readLogin } from './login-file.js';

export interface ConnectionFlags {
  url?: string | undefined;
  tokenFile?: string | undefined;
  state?: string | undefined;
}

export interface Connection {
  url: string;
  token: string | undefined;
  /** What chose the address, for `whoami` and for errors. */
  from: '--url' | 'M2_URL' | 'login' | 'state';
}

type Surroundings = Pick<World, 'env' | 'home' | 'cwd'>;

/** What `m2 up` remembers; what it was not told has the supervisor's default. */
const embedded = z.object({ port: z.int().min(1).max(65535).default(7400), listen: z.string().default('127.0.0.1') });

/** Where the embedded installation keeps its state. */
export async function stateDirectory({ env, cwd }: Surroundings, flag?: string): Promise<string> {
  if (flag) return resolve(cwd, flag);
  const { defaultState } = await import('@m2/supervisor');
  return defaultState({ ...env });
}

/**
 * Where to connect and as whom: flags, environment, login, the embedded installation of this machine. A remembered token goes
 * only to the address that it was remembered for: whoever makes somebody use another address does not get it.
 */
export async function resolveConnection(world: Surroundings, flags: ConnectionFlags): Promise<Connection> {
  const token = await explicitToken(world, flags);
  if (flags.url !== undefined || (flags.state === undefined && world.env.M2_URL)) {
    const from = flags.url === undefined ? 'M2_URL' : '--url';
    const url = checkUrl(flags.url ?? (world.env.M2_URL as string), from);
    return { url, token: token ?? (await rememberedToken(world, url)), from };
  }
  if (flags.state === undefined) {
    const login = await readLogin(loginPath(world));
    if (login.url !== undefined)
      return { url: checkUrl(login.url, 'login'), token: token ?? login.token, from: 'login' };
  }
  const state = await stateDirectory(world, flags.state);
  const url = await embeddedUrl(state);
  return { url, token: token ?? (await readToken(join(state, 'admin-token'))), from: 'state' };
}

/** Takes `http` and `https`, without credentials, query or fragment; returns it without a slash at the end. */
export function checkUrl(text: string, from: string): string {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol)) throw usageError(`${from}: "${text}" is not an http or https address`);
  if (url.username || url.password) throw usageError(`${from}: an address may not hold credentials`);
  if (url.search || url.hash) throw usageError(`${from}: an address may not hold a query or a fragment`);
  return url.href.replace(/\/+$/, '');
}

async function explicitToken(world: Surroundings, flags: ConnectionFlags): Promise<string | undefined> {
  if (flags.tokenFile !== undefined) return readToken(resolve(world.cwd, flags.tokenFile));
  if (world.env.M2_TOKEN) return world.env.M2_TOKEN;
  if (world.env.M2_TOKEN_FILE) return readToken(resolve(world.cwd, world.env.M2_TOKEN_FILE));
  return undefined;
}

async function rememberedToken(world: Surroundings, url: string): Promise<string | undefined> {
  const login = await readLogin(loginPath(world));
  return login.url !== undefined && checkUrl(login.url, 'login') === url ? login.token : undefined;
}

async function embeddedUrl(state: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(join(state, 'config.json'), 'utf8');
  } catch (cause) {
    throw new CliError(
      {
        code: 'cli.not_connected',
        title: 'There is no M2 to talk to',
        detail: `no login, no M2_URL, and nothing was started with its state in ${state}`,
        remedy: 'Start one on this machine with m2 up, or name one with m2 login URL.',
        exitCode: exitCodes.unreachable,
      },
      { cause },
    );
  }
  const config = embedded.safeParse(tryJson(text));
  if (!config.success) throw usageError(`${join(state, 'config.json')} is not the configuration of an installation`);
  const { listen, port } = config.data;
  // Who listens everywhere is reached over the loopback.
  const host = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[listen] ?? (listen.includes(':') ? `[${listen}]` : listen);
  return `http://${host}:${port}`;
}

/** Reads a token from a file: one line. Throws when the file is not there, may not be read, or is empty. */
async function readToken(path: string): Promise<string> {
  try {
    const token = (await readFile(path, 'utf8')).trim();
    if (token !== '' && !/\s/.test(token)) return token;
  } catch (cause) {
    throw new CliError(
      {
        code: 'cli.token_file',
        title: 'The token cannot be read',
        detail: `${path}: ${(cause as Error).message}`,
        remedy: 'Check the path and who may read it; the admin token of m2 up is for the user who started it.',
        exitCode: exitCodes.notAuthorised,
      },
      { cause },
    );
  }
  throw usageError(`${path} does not hold a token on one line`);
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
