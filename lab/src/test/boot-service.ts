import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import type { TestTarget } from './iscsi-target.js';

export interface TestBootService {
  port: number;
  /** When (ms of `performance.now()`) the last script and the last metadata were asked for. */
  times: { script: number; metadata: number };
  /** Returns the next phone-home, each once. Throws after `deadlineMs`. */
  nextCall(deadlineMs: number): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

/** As much of the boot service as a node meets: its script, its metadata with a one-time token, and phone-home. */
export async function startBootService(target: TestTarget, address = '127.0.0.1'): Promise<TestBootService> {
  const calls: Record<string, string>[] = [];
  const times = { script: 0, metadata: 0 };
  // QEMU's user network shows the host's loopback to its guest under this address.
  const portal = address === '127.0.0.1' ? '10.0.2.2' : address;
  let token = 0;
  const answer = async (request: IncomingMessage): Promise<string | Buffer | undefined> => {
    const url = new URL(request.url ?? '', 'http://boot');
    const mac = url.searchParams.get('mac') ?? '';
    if (url.pathname === '/boot/ipxe') {
      times.script = performance.now();
      return [
        '#!ipxe',
        `set initiator-iqn iqn.2026-11.test.m2:${mac.replaceAll(':', '')}`,
        `set username ${target.user}`,
        `set password ${target.password}`,
        `sanboot iscsi:${portal}::${target.port}:1:${target.iqn}`,
        '',
      ].join('\n');
    }
    if (url.pathname === '/boot/snponly.efi') return readFile('/usr/lib/ipxe/snponly.efi');
    if (url.pathname === '/boot/metadata') {
      times.metadata = performance.now();
      token += 1;
      return `mac=${mac}\nphone_home=/boot/phone-home/${token}\n`;
    }
    if (request.method === 'POST' && url.pathname === `/boot/phone-home/${token}`) {
      calls.push(Object.fromEntries(new URLSearchParams(await text(request))));
      return 'welcome\n';
    }
    return undefined;
  };
  const server = createServer((request, response) => {
    void answer(request).then((body) => {
      response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'text/plain' });
      response.end(body);
    });
  });
  server.listen(0, address);
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    times,
    nextCall: async (deadlineMs) => {
      const deadline = performance.now() + deadlineMs;
      for (;;) {
        const call = calls.shift();
        if (call) return call;
        if (performance.now() > deadline) throw new Error(`No node phoned home within ${deadlineMs} ms`);
        await delay(20);
      }
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
