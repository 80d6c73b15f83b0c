import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import {
  fetchUrl,
  image,
  isStaged,
  quick,
  sendImage,
  serve,
  sha256,
  staged,
  useImageServers,
} from './image-server.fixture.js';

useImageServers();

describe('an image from a URL', () => {
  it('is fetched, with its size, hash and progress', async () => {
    const { port } = await serve((request, response) => sendImage(request, response, '"1"'));
    const totals = new Set<number | undefined>();
    const result = await fetchUrl(`http://127.0.0.1:${port}/image`, {
      sha256,
      onProgress: (_, total) => totals.add(total),
    });
    expect(result).toEqual({ path: staged(), bytes: image.length, sha256 });
    expect((await readFile(staged())).equals(image)).toBe(true);
    expect([...totals]).toEqual([image.length]);
  });

  it('goes on where the transfer broke', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, '"1"', 600_000));
    expect(await fetchUrl(`http://127.0.0.1:${port}/`, { sha256 })).toMatchObject({ bytes: image.length });
    const starts = requests.map((request) => Number(/\d+/.exec(request.headers.range ?? '0')?.[0]));
    expect(starts[0]).toBe(0);
    expect(starts.length).toBeGreaterThan(1);
    expect(starts.slice(1).every((start) => start > 300_000)).toBe(true);
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
    await fetchUrl(`http://127.0.0.1:${port}/`, { sha256 });
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
    await fetchUrl(`http://127.0.0.1:${port}/`, { sha256 });
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
    await fetchUrl(`http://127.0.0.1:${port}/`, { sha256 });
    expect((await readFile(staged())).equals(image)).toBe(true);
  });

  it('that never comes whole is truncated, after a bounded number of tries', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, undefined, 1000));
    await expect(fetchUrl(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.truncated' });
    expect(requests).toHaveLength(4);
    expect(await isStaged()).toBe(false);
  });

  it('of unknown length that breaks off is truncated too', async () => {
    const { port } = await serve((_, response) => response.write(image, () => response.destroy()));
    await expect(fetchUrl(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'image.truncated' });
  });

  it('waits out a server that is out of order for a moment', async () => {
    let count = 0;
    const { port } = await serve((request, response) => {
      count += 1;
      if (count > 2) sendImage(request, response, undefined);
      else response.writeHead(count === 1 ? 503 : 429).end();
    });
    expect(await fetchUrl(`http://127.0.0.1:${port}/`)).toMatchObject({ sha256 });
  });

  it('that is not there, or is compressed on its way, is unreachable at once', async () => {
    const { port, requests } = await serve((request, response) =>
      request.url === '/gzip'
        ? response.writeHead(200, { 'Content-Encoding': 'gzip' }).end('x')
        : response.writeHead(404).end(),
    );
    for (const path of ['/', '/gzip']) {
      await expect(fetchUrl(`http://127.0.0.1:${port}${path}`)).rejects.toMatchObject({
        code: 'image.source_unreachable',
      });
    }
    expect(requests).toHaveLength(2);
  });

  it('is given up when the server does not answer, or stalls', async () => {
    const silent = await serve(() => {});
    await expect(fetchUrl(`http://127.0.0.1:${silent.port}/`, { rules: { download: quick } })).rejects.toMatchObject({
      code: 'image.source_unreachable',
    });
    const stalling = await serve((_, response) => response.writeHead(200, { 'Content-Length': 10 }).write('12345'));
    await expect(
      fetchUrl(`http://127.0.0.1:${stalling.port}/`, { rules: { download: { ...quick, connectTimeoutMs: 30_000 } } }),
    ).rejects.toMatchObject({
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
      await expect(fetchUrl(`http://127.0.0.1:${port}${path}`, { rules: { maxBytes: 500_000 } })).rejects.toMatchObject(
        {
          code: 'image.too_large',
        },
      );
    }
    expect(await isStaged()).toBe(false);
  });

  it('with another checksum leaves nothing', async () => {
    const { port } = await serve((request, response) => sendImage(request, response, undefined));
    await expect(fetchUrl(`http://127.0.0.1:${port}/`, { sha256: 'f'.repeat(64) })).rejects.toMatchObject({
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
    const fetching = fetchUrl(`http://127.0.0.1:${port}/`, {
      signal: cancel.signal,
      onProgress: () => cancel.abort(reason),
    });
    await expect(fetching).rejects.toBe(reason);
    expect(await isStaged()).toBe(false);
  });
});
