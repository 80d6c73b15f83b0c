import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AllowedHosts } from './allowed-hosts.js';
import type { Resolve } from './allowed-hosts.js';
import { fetchImage } from './source.js';
import type { FetchOptions, SourceRules } from './source.js';

const image = Buffer.concat([randomBytes(400_000), Buffer.alloc(300_000), randomBytes(300_000)]);
const sha256 = createHash('sha256').update(image).digest('hex');
type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let base: string;
let servers: Server[];
const staged = () => join(base, 'staged');

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

/** A real HTTP server; answers its port and the requests that it got. */
async function serve(handler: Handler, address = '127.0.0.1', port = 0, server = createServer()) {
  const requests: IncomingMessage[] = [];
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    requests.push(request);
    handler(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, address, resolve));
  return { port: (server.address() as AddressInfo).port, requests };
}

/** Answers the image, from where a Range asks for it, and breaks off after `breakAfter` bytes. */
function sendImage(
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

async function fetch(
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
const elsewhere: Resolve = async () => [{ address: '127.0.0.2', family: 4 }];
const quick = { connectTimeoutMs: 100, stallTimeoutMs: 100, retries: 1 };
const isStaged = () =>
  stat(staged()).then(
    () => true,
    () => false,
  );

describe('an image from a URL', () => {
  it('is fetched, with its size, hash and progress', async () => {
    const { port } = await serve((request, response) => sendImage(request, response, '"1"'));
    const totals = new Set<number | undefined>();
    const result = await fetch(`http://127.0.0.1:${port}/image`, {
      sha256,
      onProgress: (_, total) => totals.add(total),
    });
    expect(result).toEqual({ path: staged(), bytes: image.length, sha256 });
    expect((await readFile(staged())).equals(image)).toBe(true);
    expect([...totals]).toEqual([image.length]);
  });

  it('goes on where the transfer broke', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, '"1"', 400_000));
    expect(await fetch(`http://127.0.0.1:${port}/`, { sha256 })).toMatchObject({ bytes: image.length });
    const starts = requests.map((request) => Number(/\d+/.exec(request.headers.range ?? '0')?.[0]));
    expect(starts).toEqual([0, 400_000, 800_000]);
    expect((await readFile(staged())).equals(image)).toBe(true);
  });

  it.each([
    ['the server cannot say that it is the same', undefined],
    ['it may differ in its bytes', 'W/"1"'],
  ])('starts again when %s', async (_, etag) => {
    let count = 0;
    const { port, requests } = await serve((request, response) =>
      sendImage(request, response, etag, count++ < 2 ? 500_000 : Infinity),
    );
    await fetch(`http://127.0.0.1:${port}/`, { sha256 });
    expect(requests.map((request) => request.headers.range)).toEqual([undefined, undefined, undefined]);
    expect((await readFile(staged())).equals(image)).toBe(true);
  });

  it('starts again when the image changed meanwhile', async () => {
    let count = 0;
    const { port } = await serve((request, response) => {
      count += 1;
      if (count > 1) return sendImage(request, response, '"new"');
      response.writeHead(200, { 'Content-Length': image.length, ETag: '"old"' });
      return response.write(randomBytes(600_000), () => response.destroy());
    });
    await fetch(`http://127.0.0.1:${port}/`, { sha256 });
    expect((await readFile(staged())).equals(image)).toBe(true);
  });

  it('does not put a wrong part into the file', async () => {
    let count = 0;
    const { port } = await serve((request, response) => {
      count += 1;
      if (count !== 2) return sendImage(request, response, '"1"', count === 1 ? 500_000 : Infinity);
      response.writeHead(206, { 'Content-Range': `bytes 0-${image.length - 1}/${image.length}` });
      return response.end(image);
    });
    await fetch(`http://127.0.0.1:${port}/`, { sha256 });
    expect((await readFile(staged())).equals(image)).toBe(true);
  });

  it('that never comes whole is truncated, after a bounded number of tries', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, undefined, 1000));
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.truncated' });
    expect(requests).toHaveLength(4);
    expect(await isStaged()).toBe(false);
  });

  it('of unknown length that breaks off is truncated too', async () => {
    const { port } = await serve((_, response) => response.write(image, () => response.destroy()));
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.truncated' });
  });

  it('waits out a server that is out of order for a moment', async () => {
    let count = 0;
    const { port } = await serve((request, response) => {
      count += 1;
      if (count > 2) sendImage(request, response, undefined);
      else response.writeHead(count === 1 ? 503 : 429).end();
    });
    expect(await fetch(`http://127.0.0.1:${port}/`)).toMatchObject({ sha256 });
  });

  it('that is not there, or is compressed on its way, is unreachable at once', async () => {
    const { port, requests } = await serve((request, response) =>
      request.url === '/gzip'
        ? response.writeHead(200, { 'Content-Encoding': 'gzip' }).end('x')
        : response.writeHead(404).end(),
    );
    for (const path of ['/', '/gzip']) {
      await expect(fetch(`http://127.0.0.1:${port}${path}`)).rejects.toMatchObject({
        code: 'image.source_unreachable',
      });
    }
    expect(requests).toHaveLength(2);
  });

  it('is given up when the server does not answer, or stalls', async () => {
    const silent = await serve(() => {});
    await expect(fetch(`http://127.0.0.1:${silent.port}/`, { rules: { download: quick } })).rejects.toMatchObject({
      code: 'image.source_unreachable',
    });
    const stalling = await serve((_, response) => response.writeHead(200, { 'Content-Length': 10 }).write('12345'));
    await expect(fetch(`http://127.0.0.1:${stalling.port}/`, { rules: { download: quick } })).rejects.toMatchObject({
      code: 'image.truncated',
    });
    expect([silent.requests.length, stalling.requests.length]).toEqual([2, 2]);
  });

  it('that is too large is refused, announced or not', async () => {
    const { port } = await serve((request, response) => {
      if (request.url === '/announced') response.writeHead(200, { 'Content-Length': 2 ** 40 }).write('x');
      else response.end(image);
    });
    for (const path of ['/announced', '/chunked']) {
      await expect(fetch(`http://127.0.0.1:${port}${path}`, { rules: { maxBytes: 500_000 } })).rejects.toMatchObject({
        code: 'image.too_large',
      });
    }
    expect(await isStaged()).toBe(false);
  });

  it('with another checksum leaves nothing', async () => {
    const { port } = await serve((request, response) => sendImage(request, response, undefined));
    await expect(fetch(`http://127.0.0.1:${port}/`, { sha256: 'f'.repeat(64) })).rejects.toMatchObject({
      code: 'image.checksum_mismatch',
    });
    expect(await isStaged()).toBe(false);
  });

  it('can be cancelled, with the reason that was given', async () => {
    const cancel = new AbortController();
    const reason = new Error('cancelled');
    const { port } = await serve((_, response) => {
      response.writeHead(200, { 'Content-Length': 10 }).write('12345');
    });
    const fetching = fetch(`http://127.0.0.1:${port}/`, {
      signal: cancel.signal,
      onProgress: () => cancel.abort(reason),
    });
    await expect(fetching).rejects.toBe(reason);
    expect(await isStaged()).toBe(false);
  });
});

describe('where a URL may lead', () => {
  it('follows a redirect to an allowed host', async () => {
    const target = await serve((request, response) => sendImage(request, response, undefined));
    const { port } = await serve((_, response) =>
      response.writeHead(302, { Location: `http://127.0.0.1:${target.port}/image` }).end(),
    );
    expect(await fetch(`http://127.0.0.1:${port}/`)).toMatchObject({ sha256 });
  });

  it.each([
    'http://127.0.0.2:PORT/',
    'http://inside.test:PORT/',
    'http://[::1]:PORT/',
    'file:///etc/passwd',
    'ftp://127.0.0.1/',
  ])('does not follow a redirect to %s', async (location) => {
    const { port, requests } = await serve((_, response) =>
      response.writeHead(302, { Location: location.replace('PORT', String(port)) }).end(),
    );
    const inside = await serve((request, response) => sendImage(request, response, undefined), '127.0.0.2', port);
    await expect(fetch(`http://127.0.0.1:${port}/`, { resolve: elsewhere })).rejects.toMatchObject({
      code: 'image.source_forbidden',
    });
    expect([requests.length, inside.requests.length]).toEqual([1, 0]);
  });

  it('does not run in circles', async () => {
    const { port, requests } = await serve((_, response) => response.writeHead(307, { Location: '/again' }).end());
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.source_unreachable' });
    expect(requests).toHaveLength(6);
  });

  it('connects to the address that was checked, though DNS answers another one afterwards', async () => {
    const allowed = await serve((request, response) => sendImage(request, response, '"1"', 400_000));
    const inside = await serve((_, response) => response.end('secret'), '127.0.0.2', allowed.port);
    let asked = 0;
    const resolve: Resolve = async () => [{ address: asked++ === 0 ? '127.0.0.1' : '127.0.0.2', family: 4 }];
    // Also for the retries that this broken transfer needs, and though both addresses are allowed.
    const result = await fetch(`http://rebind.test:${allowed.port}/`, { resolve, hosts: ['127.0.0.0/8'] });
    expect(result).toMatchObject({ sha256 });
    expect(asked).toBe(1);
    expect(allowed.requests.every((request) => request.headers.host === `rebind.test:${allowed.port}`)).toBe(true);
    expect(inside.requests).toEqual([]);
  });

  it('does not connect to what a listed name leads to inside', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, undefined));
    await expect(fetch(`http://images.test:${port}/`, { hosts: ['images.test'] })).rejects.toMatchObject({
      code: 'image.source_forbidden',
    });
    expect(requests).toEqual([]);
  });

  it('refuses other schemes, and URLs with credentials', async () => {
    for (const url of [
      'file:///etc/passwd',
      'ftp://127.0.0.1/x',
      'gopher://127.0.0.1/',
      'http://a:b@127.0.0.1/',
      '/etc/passwd',
    ]) {
      await expect(fetch(url)).rejects.toMatchObject({ code: 'image.source_forbidden' });
    }
  });

  it('over HTTPS the certificate must be that of the name, and a redirect to HTTP is refused', async () => {
    const key = join(base, 'key.pem');
    const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=mirror.test'.split(' ');
    args.push('-addext', 'subjectAltName=DNS:mirror.test', '-keyout', key);
    const { stdout: cert } = await promisify(execFile)('openssl', args);
    const { port } = await serve(
      (request, response) => {
        if (request.url === '/down') response.writeHead(302, { Location: 'http://127.0.0.1/' }).end();
        else sendImage(request, response, undefined);
      },
      '127.0.0.1',
      0,
      createTlsServer({ key: await readFile(key), cert }),
    );
    const untrusted = fetch(`https://mirror.test:${port}/`, {
      rules: { download: { ...quick, connectTimeoutMs: 30_000 } },
    });
    await expect(untrusted).rejects.toMatchObject({ code: 'image.source_unreachable' });
    const before = getCACertificates('default');
    setDefaultCACertificates([cert]);
    try {
      expect(await fetch(`https://mirror.test:${port}/`)).toMatchObject({ sha256 });
      await expect(fetch(`https://other.test:${port}/`)).rejects.toMatchObject({ code: 'image.source_unreachable' });
      await expect(fetch(`https://mirror.test:${port}/down`)).rejects.toMatchObject({ code: 'image.source_forbidden' });
    } finally {
      setDefaultCACertificates(before);
    }
  });
});

describe('a local file that is no file', () => {
  it('is refused without waiting for its writer', async () => {
    await promisify(execFile)('mkfifo', [join(base, 'fifo')]);
    await expect(
      fetchImage({ kind: 'file', path: join(base, 'fifo') }, staged(), {
        directories: [base],
        hosts: new AllowedHosts([]),
        maxBytes: 1,
        download: quick,
      }),
    ).rejects.toMatchObject({ code: 'image.source_forbidden' });
  });
});
