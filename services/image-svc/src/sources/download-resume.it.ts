import { appendFile, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fetchUrl, image, sendImage, serve, sha256, staged, useImageServers } from './image-server.fixture.js';
import { discardFetched } from './source.js';

useImageServers();

const stopped = new Error('the service stops');
const left = async () => (await readdir(dirname(staged()))).sort();

/** Sends the first half and waits; then sends everything that is asked for. */
function halting(etag: string | undefined, headers: Record<string, string> = {}) {
  let first = true;
  return (request: IncomingMessage, response: ServerResponse) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (!first) return sendImage(request, response, etag ?? headers['Last-Modified']);
    first = false;
    response.writeHead(200, { 'Content-Length': image.length, ...(etag && { ETag: etag }) });
    return response.write(image.subarray(0, 500_000));
  };
}

/** A run that ends, as with its service, when half of the image was received. */
async function firstRun(port: number): Promise<void> {
  const stop = new AbortController();
  const run = fetchUrl(`http://127.0.0.1:${port}/`, {
    sha256,
    signal: stop.signal,
    onProgress: (done) => done === 500_000 && stop.abort(stopped),
  });
  await expect(run).rejects.toBe(stopped);
}

async function secondRun(port: number): Promise<void> {
  expect(await fetchUrl(`http://127.0.0.1:${port}/`, { sha256 })).toEqual({
    path: staged(),
    bytes: image.length,
    sha256,
  });
  expect((await readFile(staged())).equals(image)).toBe(true);
}

describe('a download that was stopped', () => {
  it('goes on in the next run', async () => {
    const { port, requests } = await serve(halting('"1"'));
    await firstRun(port);
    await secondRun(port);
    expect(requests.map(({ headers }) => headers.range)).toEqual([undefined, 'bytes=500000-']);
  });

  it('goes on by the date of the file, if that is old enough to be sure', async () => {
    const dates = { 'Last-Modified': 'Sun, 01 Nov 2026 10:00:00 GMT', Date: 'Sun, 01 Nov 2026 10:01:00 GMT' };
    const { port, requests } = await serve(halting(undefined, dates));
    await firstRun(port);
    await secondRun(port);
    expect(requests[1]?.headers['if-range']).toBe(dates['Last-Modified']);
  });

  it.each([
    ['a young date', undefined, { 'Last-Modified': 'Sun, 01 Nov 2026 10:00:30 GMT' }],
    ['a weak tag, whatever its date', 'W/"1"', { 'Last-Modified': 'Sun, 01 Nov 2026 09:00:00 GMT' }],
    ['nothing', undefined, {}],
  ])('begins again where the server has %s to tell versions apart', async (_, etag, headers) => {
    const { port, requests } = await serve(halting(etag, { Date: 'Sun, 01 Nov 2026 10:01:00 GMT', ...headers }));
    await firstRun(port);
    expect(await left()).toEqual([]);
    await secondRun(port);
    expect(requests[1]?.headers.range).toBeUndefined();
  });

  it('begins again when the image changed meanwhile', async () => {
    let first = true;
    const before = halting('"old"');
    const { port, requests } = await serve((request, response) => {
      if (!first) return sendImage(request, response, '"new"');
      first = false;
      return before(request, response);
    });
    await firstRun(port);
    await writeFile(staged(), Buffer.alloc(500_000, 1)); // as another version would begin
    await secondRun(port);
    expect(requests[1]?.headers['if-range']).toBe('"old"');
  });

  it('does not trust what came after the note, nor a file that is shorter than it', async () => {
    for (const [spoil, range] of [
      [() => appendFile(staged(), 'not on the disk for good'), 'bytes=500000-'],
      [() => truncate(staged(), 100_000), undefined],
    ] as const) {
      const { port, requests } = await serve(halting('"1"'));
      await firstRun(port);
      await spoil();
      await secondRun(port);
      expect(requests[1]?.headers.range).toBe(range);
      await discardFetched(staged());
    }
  });

  it('takes a note that nobody can read for none', async () => {
    const { port, requests } = await serve(halting('"1"'));
    await firstRun(port);
    await writeFile(`${staged()}.part`, '{');
    await secondRun(port);
    expect(requests[1]?.headers.range).toBeUndefined();
  });

  it('needs no server any more when it was whole', async () => {
    const { port, requests } = await serve((request, response) => sendImage(request, response, '"1"'));
    await secondRun(port);
    await secondRun(port);
    expect(requests).toHaveLength(1);
  });

  it('leaves nothing when it is discarded, or fails', async () => {
    const { port } = await serve(halting('"1"'));
    await firstRun(port);
    expect(await left()).toHaveLength(2);
    await discardFetched(staged());
    await discardFetched(staged());
    expect(await left()).toEqual([]);
    await firstRun((await serve(halting('"1"'))).port);
    const bad = fetchUrl(`http://127.0.0.1:${port}/`, { sha256: '0'.repeat(64) });
    await expect(bad).rejects.toMatchObject({ code: 'image.checksum_mismatch' });
    expect(await left()).toEqual([]);
  });
});
