import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { SupervisorError } from './errors.js';
import { portsOf, type Settings } from './options.js';

interface WantedPort {
  host: string;
  port: number;
  what: string;
}

const wantedPorts = (settings: Settings): WantedPort[] => {
  const ports = portsOf(settings.port);
  return [
    { host: settings.listen, port: ports.gateway, what: 'the API' },
    { host: settings.provisioningAddress, port: ports.boot, what: 'the boot server' },
    { host: '127.0.0.1', port: ports.nats, what: 'NATS' },
    ...Object.entries(ports.ops).map(([service, port]) => ({ host: '127.0.0.1', port, what: `health of ${service}` })),
  ];
};

/**
 * Refuses to start when a port is taken. Portals are not checked: a tgtd of the last start may still serve there, and iscsi-svc skips
 * ports that are taken.
 * Throws `supervisor.port_taken` with the port, what it is for and who has it; `supervisor.bad_option` for an address that is not ours.
 */
export async function checkPorts(settings: Settings): Promise<void> {
  for (const { host, port, what } of wantedPorts(settings)) {
    const code = await tryListen(host, port);
    if (code === 'EADDRINUSE') {
      const holder = portHolder(port);
      throw new SupervisorError(
        'supervisor.port_taken',
        `Port ${port} of ${host}, for ${what}, is taken${holder ? ` by ${holder}` : ' by a process of another user'}`,
        'Stop that process, or give another base port with --port.',
      );
    }
    if (code !== undefined)
      throw new SupervisorError(
        'supervisor.bad_option',
        `Nothing can listen on ${host}:${port}, for ${what}: ${code}`,
        'Give an address that this machine has.',
      );
  }
}

const rangeLength = 50;

/**
 * A base port whose whole range is free now, portals included. It lies below the range that the kernel uses for outgoing connections,
 * so that none of them takes a port meanwhile. Its last port stays taken as long as this process lives: whoever asks next, before
 * anything listens on the others, gets another range.
 */
export async function findFreeBasePort(): Promise<number> {
  const [low] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/).map(Number) as [number];
  const highest = Math.max(low, 20_000) - 100;
  for (let attempt = 0; attempt < 200; attempt++) {
    const base = 10_000 + Math.floor((Math.random() * (highest - 10_000)) / rangeLength) * rangeLength;
    const claim = await listen('0.0.0.0', base + rangeLength - 1).catch(() => undefined);
    if (!claim) continue;
    const range = Array.from({ length: rangeLength - 1 }, (_, offset) => base + offset);
    const codes = await Promise.all(range.map((port) => tryListen('0.0.0.0', port)));
    if (codes.every((code) => code === undefined)) {
      claim.unref();
      return base;
    }
    claim.close();
  }
  throw new Error(`no ${rangeLength} ports in a row are free between 10000 and ${highest}`);
}

/** Undefined when it worked, else the error's code. */
async function tryListen(host: string, port: number): Promise<string | undefined> {
  try {
    const server = await listen(host, port);
    server.close();
    await once(server, 'close');
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

async function listen(host: string, port: number): Promise<Server> {
  const server = createServer();
  server.listen({ host, port, exclusive: true });
  await once(server, 'listening');
  return server;
}

/** The program and number of the process that listens on a TCP port, as far as we may see; proc(5), /proc/net/tcp. */
function portHolder(port: number): string | undefined {
  const listening = '0A';
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = new Set(
    ['/proc/net/tcp', '/proc/net/tcp6']
      .flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(1))
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local?.endsWith(`:${hexPort}`) && state === listening)
      .map((fields) => `socket:[${fields[9]}]`),
  );
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readdirSync(`/proc/${pid}/fd`).some((fd) => sockets.has(safeReadlink(`/proc/${pid}/fd/${fd}`))))
        return `${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()} (process ${pid})`;
    } catch {
      // The process ended, or belongs to another user.
    }
  }
  return undefined;
}

function safeReadlink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
