import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { AllowedHosts } from './allowed-hosts.js';
import type { Resolve } from './allowed-hosts.js';
import { fetchImage } from './source.js';
import type { FetchOptions, SourceRules } from './source.js';

export const image = Buffer.concat([randomBytes(400_000), Buffer.alloc(300_000), randomBytes(300_000)]);
export const sha256 = createHash('sha256').update(image).digest('hex');
type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let base: string;
let servers: Server[];
/** A file in the test's own directory. */
export const at = (name: string) => join(base, name);
export const staged = () => at('staged');

/** Call it in a test file: servers and files last for one test. */
export function useImageServers(): void {
  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'm2-source-'));
    servers = [];
  });
  afterEach(async () => {
    for (const server of servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    await rm(base, { recursive: true });
  });
}

/** A real HTTP server. Returns its port and the requests that it got. */
export async function serve(handler: Handler, address = '127.0.0.1', port = 0, server = createServer()) {
  const requests: IncomingMessage[] = [];
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    requests.push(request);
    handler(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, address, resolve));
  return { port: (server.address() as AddressInfo).port, requests };
}

/** Sends the image, from where a Range asks for it, and breaks off after `breakAfter` bytes. */
export function sendImage(
  request: IncomingMessage,
  response: ServerResponse,
  etag: string | undefined,
  breakAfter = Infinity,
) {
  const asked = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
  const from = asked !== undefined && request.headers['if-range'] === etag ? Number(asked) : 0;
  const body = image.subarray(from);
  response.writeHead(from > 0 ? 206 : 200, {
    'Content-Length': body.length,
    ...(etag && { ETag: etag }),
    ...(from > 0 && { 'Content-Range': `bytes ${from}-${image.length - 1}/${image.length}` }),
  });
  if (body.length <= breakAfter) response.end(body);
  else response.write(body.subarray(0, breakAfter), () => response.socket?.end());
}

export async function fetchUrl(
  url: string,
  options: FetchOptions & { hosts?: string[]; resolve?: Resolve; rules?: Partial<SourceRules> } = {},
) {
  return fetchImage(
    { kind: 'url', url },
    staged(),
    {
      directories: [],
      hosts: new AllowedHosts(options.hosts ?? ['127.0.0.1'], options.resolve ?? localhost),
      maxBytes: 2 ** 30,
      download: { connectTimeoutMs: 30_000, stallTimeoutMs: 30_000, retries: 3 },
      ...options.rules,
    },
    options,
  );
}

const localhost: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];
export const elsewhere: Resolve = async () => [{ address: '127.0.0.2', family: 4 }];
export const quick = { connectTimeoutMs: 100, stallTimeoutMs: 100, retries: 1 };
export const isStaged = () =>
  stat(staged()).then(
    () => true,
    () => false,
  );
