import { execFile } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const leaseScript = fileURLToPath(new URL('lease.sh', import.meta.url));

/** A cable from this machine to a client in a network namespace of its own. */
export interface ClientNetwork {
  /** Our end, which has `serverAddress`; the network is a /24 (and `fd79::/64` with a part of its own). */
  serverInterface: string;
  serverAddress: string;
  range: { from: string; to: string };
  clientMac: string;
  ipv6Prefix: string;
  /** Runs a command as the client; rejects when it fails. */
  run(file: string, ...args: string[]): Promise<string>;
  /** Gets a lease with busybox's udhcpc and these additional arguments; the variables that its script was given. */
  lease(...args: string[]): Promise<Record<string, string>>;
  remove(): Promise<void>;
}

const ip = async (...args: string[]) => (await execute('ip', args)).stdout;

/** Makes it. The interface's name carries the number of the network, so that the kernel refuses a second taker. */
export async function makeClientNetwork(): Promise<ClientNetwork> {
  const namespace = `m2dhcp-${randomBytes(5).toString('hex')}`;
  await ip('netns', 'add', namespace);
  try {
    const net = await layCable(namespace);
    const serverInterface = `m2dhcp${net}`;
    const serverAddress = `10.79.${net}.1`;
    const ipv6Prefix = `fd79:${net.toString(16)}`;
    await ip('address', 'add', `${serverAddress}/24`, 'dev', serverInterface);
    await ip('address', 'add', `${ipv6Prefix}::1/64`, 'dev', serverInterface, 'nodad');
    await ip('link', 'set', serverInterface, 'up');
    await ip('-n', namespace, 'link', 'set', 'client', 'up');
    const link = await ip('-n', namespace, '-o', 'link', 'show', 'client');
    const clientMac = /link\/ether (\S+)/.exec(link)?.[1] ?? '';
    const dir = await mkdtemp(join(tmpdir(), 'm2-dhcp-client-'));
    const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
    const run = async (file: string, ...args: string[]) =>
      (await execute('ip', ['netns', 'exec', namespace, file, ...args], { cwd: dir, env })).stdout;
    return {
      serverInterface,
      serverAddress,
      range: { from: `10.79.${net}.100`, to: `10.79.${net}.199` },
      clientMac,
      ipv6Prefix,
      run,
      lease: async (...args) => {
        const file = join(dir, 'lease');
        await rm(file, { force: true });
        const ask = ['-i', 'client', '-f', '-n', '-q', '-t', '10', '-T', '1', '-s', leaseScript, ...args];
        await run('env', `M2_LEASE=${file}`, 'busybox', 'udhcpc', ...ask);
        const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line.includes('='));
        return Object.fromEntries(
          lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
        );
      },
      remove: async () => {
        await rm(dir, { recursive: true });
        await removeNamespace(namespace);
      },
    };
  } catch (error) {
    await removeNamespace(namespace);
    throw error;
  }
}

async function layCable(namespace: string): Promise<number> {
  for (let tries = 0; tries < 50; tries += 1) {
    const net = randomInt(256);
    const pair = ['link', 'add', `m2dhcp${net}`, 'type', 'veth', 'peer', 'name', 'client', 'netns', namespace];
    if (
      await ip(...pair).then(
        () => true,
        () => false,
      )
    )
      return net;
  }
  throw new Error('No network is free: remove the interfaces m2dhcp* that nobody uses');
}

/** The cable first: the kernel takes a namespace apart later, and the name of our end must be free now. */
async function removeNamespace(namespace: string): Promise<void> {
  await ip('-n', namespace, 'link', 'delete', 'client').catch(() => {});
  await ip('netns', 'delete', namespace);
}
