import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer as createTlsServer } from 'node:https';
import { dirname } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { AllowedHosts } from './allowed-hosts.js';
import type { Resolve } from './allowed-hosts.js';
import {
  at,
  elsewhere,
  fetchUrl,
  quick,
  sendImage,
  serve,
  sha256,
  staged,
  useImageServers,
} from './image-server.fixture.js';
import { fetchImage } from './source.js';

useImageServers();

describe('where a URL may lead', () => {
  it('follows a redirect to an allowed host', async () => {
    const target = await serve((request, response) => sendImage(request, response, undefined));
    const { port } = await serve((_, response) =>
      response.writeHead(302, { Location: `http://127.0.0.1:${target.port}/image` }).end(),
    );
    expect(await fetchUrl(`http://127.0.0.1:${port}/`)).toMatchObject({ sha256 });
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
    await expect(fetchUrl(`http://127.0.0.1:${port}/`, { resolve: elsewhere })).rejects.toMatchObject({
      code: 'image.source_forbidden',
    });
    expect([requests.length, inside.requests.length]).toEqual([1, 0]);
  });

  it('does not run in circles', async () => {
    const { port, requests } = await serve((_, response) => response.writeHead(307, { Location: '/again' }).end());
    await expect(fetchUrl(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.source_unreachable' });
    expect(requests).toHaveLength(6);
  });

  it('connects to the address that was checked, though DNS answers another one afterwards', async () => {
    const allowed = await serve((request, response) => sendImage(request, response, '"1"', 600_000));
    const inside = await serve((_, response) => response.end('secret'), '127.0.0.2', allowed.port);
    let asked = 0;
    const resolve: Resolve = async () => [{ address: asked++ === 0 ? '127.0.0.1' : '127.0.0.2', family: 4 }];
    // Also for the retries that this broken transfer needs, although both addresses are allowed.
    const result = await fetchUrl(`http://rebind.test:${allowed.port}/`, { resolve, hosts: ['127.0.0.0/8'] });
    expect(result).toMatchObject({ sha256 });
    expect(asked).toBe(1);
    expect(allowed.requests.every((request) => request.headers.host === `rebind.test:${allowed.port}`)).toBe(true);
    expect(inside.requests).toEqual([]);
  });

  it('does not connect to what a listed name leads to inside', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, undefined));
    await expect(fetchUrl(`http://images.test:${port}/`, { hosts: ['images.test'] })).rejects.toMatchObject({
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
      await expect(fetchUrl(url)).rejects.toMatchObject({ code: 'image.source_forbidden' });
    }
  });

  it('over HTTPS the certificate must be that of the name, and a redirect to HTTP is refused', async () => {
    const key = at('key.pem');
    const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=mirror.test'.split(
      ' ',
    );
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
    const untrusted = fetchUrl(`https://mirror.test:${port}/`, {
      rules: { download: { ...quick, connectTimeoutMs: 30_000 } },
    });
    await expect(untrusted).rejects.toMatchObject({ code: 'image.source_unreachable' });
    const before = getCACertificates('default');
    setDefaultCACertificates([cert]);
    try {
      expect(await fetchUrl(`https://mirror.test:${port}/`)).toMatchObject({ sha256 });
      await expect(fetchUrl(`https://other.test:${port}/`)).rejects.toMatchObject({ code: 'image.source_unreachable' });
      await expect(fetchUrl(`https://mirror.test:${port}/down`)).rejects.toMatchObject({
        code: 'image.source_forbidden',
      });
    } finally {
      setDefaultCACertificates(before);
    }
  });
});

describe('a local file that is no file', () => {
  it('is refused without waiting for its writer', async () => {
    await promisify(execFile)('mkfifo', [at('fifo')]);
    await expect(
      fetchImage({ kind: 'file', path: at('fifo') }, staged(), {
        directories: [dirname(at('fifo'))],
        hosts: new AllowedHosts([]),
        maxBytes: 1,
        download: quick,
      }),
    ).rejects.toMatchObject({ code: 'image.source_forbidden' });
  });
});
