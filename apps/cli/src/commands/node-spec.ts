import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { InvalidArgumentError } from 'commander';
import { usageError } from '../errors.js';
import { readSecret } from '../prompt.js';
import type { World } from '../world.js';

export interface BmcOptions {
  bmc?: Endpoint;
  bmcUser?: string;
  bmcPasswordFile?: string;
  cipherSuites?: number[];
}

interface Endpoint {
  address: string;
  port?: number;
}

/** `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare IPv6 address, for commander; the API checks the parts. */
export function parseEndpoint(text: string): Endpoint {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const plain = /^([^:]+)(?::(\d+))?$/.exec(text);
  const [, address, port] = bracketed ?? plain ?? [];
  if (address !== undefined) return { address, ...(port !== undefined && { port: Number(port) }) };
  if (/^[0-9a-f:.]+$/i.test(text)) return { address: text };
  throw new InvalidArgumentError('Give HOST, HOST:PORT or [IPV6]:PORT.');
}

/** `MAC[,label=MAC…]`, for commander; nics without a label are called `nic0`, `nic1` … by their place. */
export const parseNics = (text: string): { label: string; mac: string }[] =>
  text.split(',').map((part, index) => {
    const [, label, mac] = /^(?:([^=]*)=)?(.*)$/.exec(part.trim()) as unknown as [string, string | undefined, string];
    return { label: label ?? `nic${index}`, mac };
  });

/** `17,3`, for commander. */
export function parseCipherSuites(text: string): number[] {
  const suites = text.split(',').map(Number);
  if (!suites.every(Number.isInteger)) throw new InvalidArgumentError('Give numbers such as 17,3.');
  return suites;
}

/** The BMC that the options describe, without its password. */
export function bmcFrom({ bmc, bmcUser, cipherSuites }: BmcOptions) {
  if (!bmc || bmcUser === undefined) throw usageError('a BMC needs --bmc and --bmc-user');
  return { ...bmc, user: bmcUser, ...(cipherSuites && { cipherSuites }) };
}

/** The password of a BMC, from a file, a hidden prompt or standard input. */
export async function bmcPassword(world: World, file: string | undefined): Promise<string> {
  if (file === undefined || file === '-')
    return readSecret(world, 'BMC password', ', or name a file that holds it with --bmc-password-file');
  let password: string;
  try {
    password = (await readFile(resolve(world.cwd, file), 'utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    throw usageError(`the BMC password cannot be read: ${(error as Error).message}`);
  }
  if (password === '') throw usageError(`the BMC password is empty: nothing is in ${file}`);
  return password;
}

/** Reads a node as `m2 node show --json` writes it, or as the API takes it; `-` is standard input. */
export async function readSpec(world: World, file: string): Promise<Record<string, unknown>> {
  try {
    const text = file === '-' ? await readAll(world.stdin) : await readFile(resolve(world.cwd, file), 'utf8');
    const spec: unknown = JSON.parse(text);
    if (typeof spec === 'object' && spec !== null && !Array.isArray(spec)) return spec as Record<string, unknown>;
  } catch (error) {
    throw usageError(`${file} cannot be read as JSON: ${(error as Error).message}`);
  }
  throw usageError(`${file} does not hold a JSON object`);
}
