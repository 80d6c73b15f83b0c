import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { type ClientRequest, request } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DetailedError, Upload } from 'tus-js-client';
import { writeSparse } from '../sources/sparse-write.js';
import { openDoor, type TestDoor } from './door.fixture.js';

vi.mock(import('../sources/sparse-write.js'), async (original) => {
  const { writeSparse: real } = await original();
  return { writeSparse: vi.fn<typeof real>(real) };
});

const MiB = 2 ** 20;
const image = Buffer.concat([randomBytes(MiB), Buffer.alloc(4 * MiB), randomBytes(MiB + 77)]);
let open: TestDoor;
let imageId: string;
let finished: [string, string][];

const listen = () => open.door.onUploaded((...upload) => finished.push(upload));
beforeEach(async () => {
  open = await openDoor();
  imageId = randomUUID();
  finished = [];
  listen();
});
afterEach(() => open.close());

const limits = () => ({ imageId, maxBytes: 10 * MiB });

/** A client like the gateway: each of its requests has a new ticket. */
function client(bytes: Buffer, options: ConstructorParameters<typeof Upload>[1] = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const upload = new Upload(bytes, {
    endpoint: open.door.openUpload(limits()).url,
    retryDelays: null,
    onBeforeRequest: (each) => each.setHeader('Authorization', `Bearer ${open.door.openUpload(limits()).ticket}`),
    onSuccess: () => resolve(),
    onError: reject,
    ...options,
  });
  return { upload, done: promise, send: () => (upload.start(), promise) };
}

/** One request of the protocol, written by hand. */
async function tus(method: string, headers: Record<string, string>, body?: Buffer) {
  const { url, ticket } = open.door.openUpload(limits());
  const response = await fetch(url, {
    method,
    headers: { 'tus-resumable': '1.0.0', authorization: `Bearer ${ticket}`, ...headers },
    ...(body && { body: new Uint8Array(body) }),
  });
  const text = await response.text();
  const problem = response.headers.get('content-type') === 'application/problem+json';
  return {
    status: response.status,
    headers: response.headers,
    ...(problem && { code: JSON.parse(text).code as string }),
  };
}
const create = (length = image.length) => tus('POST', { 'upload-length': String(length) });
const patch = (offset: number, bytes: Buffer) =>
  tus('PATCH', { 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' }, bytes);
const offset = async () => (await tus('HEAD', {})).headers.get('upload-offset');

/** A PATCH that sends `bytes`, and then nothing. */
async function stuckPatch(bytes: Buffer): Promise<ClientRequest> {
  const { url, ticket } = open.door.openUpload(limits());
  const stuck = request(url, {
    method: 'PATCH',
    headers: {
      authorization: `Bearer ${ticket}`,
      'tus-resumable': '1.0.0',
      'upload-offset': '0',
      'content-type': 'application/offset+octet-stream',
      'content-length': image.length,
    },
  });
  stuck.on('error', () => {});
  stuck.write(bytes);
  const { directory } = open;
  await vi.waitFor(async () => expect((await stat(join(directory, 'uploads', imageId))).blocks).toBeGreaterThan(0));
  return stuck;
}

describe('an upload', () => {
  it('comes whole, from a client of the protocol', async () => {
    await client(image).send();
    const path = await open.door.uploaded(imageId);
    expect(finished).toEqual([[imageId, path]]);
    expect((await readFile(path!)).equals(image)).toBe(true);
    // Zeros take no space.
    expect((await stat(path!)).blocks * 512).toBeLessThan(3 * MiB);
    expect(await open.door.progressOf(imageId)).toMatchObject({ done: image.length, total: image.length });
  });

  it('may begin with its first bytes, and its address is right behind any door', async () => {
    const { status, headers } = await tus(
      'POST',
      { 'upload-length': String(image.length), 'content-type': 'application/offset+octet-stream' },
      image.subarray(0, 1000),
    );
    expect([status, headers.get('location'), headers.get('upload-offset')]).toEqual([201, 'upload', '1000']);
    expect(await open.door.progressOf(imageId)).toMatchObject({ done: 1000, total: image.length });
    expect(await open.door.uploaded(imageId)).toBeUndefined();
  });

  it('goes on after a restart of the service, and a finished one is found again', async () => {
    const { upload, send } = client(image, {
      chunkSize: 2 * MiB,
      onChunkComplete: (_, accepted) => accepted === 4 * MiB && void upload.abort(),
    });
    void send();
    await vi.waitFor(async () => expect(await offset()).toBe(String(4 * MiB)));
    await open.restart();
    listen();
    expect(await offset()).toBe(String(4 * MiB));
    const more: number[] = [];
    await client(image, {
      uploadUrl: open.door.openUpload(limits()).url,
      chunkSize: MiB,
      onChunkComplete: (size) => more.push(size),
    }).send();
    expect(more.reduce((sum, size) => sum + size)).toBe(image.length - 4 * MiB);
    expect(finished).toHaveLength(1);
    await open.restart();
    const path = await open.door.uploaded(imageId);
    const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
    expect(sha256(await readFile(path!))).toBe(sha256(image));
  });

  it('keeps what came of a request that broke off', async () => {
    await create();
    const stuck = await stuckPatch(image.subarray(0, 700_000));
    stuck.destroy();
    await vi.waitFor(async () => expect(Number(await offset())).toBe(700_000));
    expect((await patch(700_000, image.subarray(700_000))).status).toBe(204);
    expect((await readFile((await open.door.uploaded(imageId))!)).equals(image)).toBe(true);
  });

  it('has one request at a time: a newer one ends the one before, whose connection was lost', async () => {
    await create();
    const stuck = await stuckPatch(image.subarray(0, 300_000));
    expect(await offset()).toBe('300000');
    expect((await patch(300_000, image.subarray(300_000))).status).toBe(204);
    expect((await readFile((await open.door.uploaded(imageId))!)).equals(image)).toBe(true);
    stuck.destroy();
  });

  it('takes no part twice, or at another place', async () => {
    await create();
    await patch(0, image.subarray(0, 1000));
    for (const wrong of [0, 999, 1001]) expect((await patch(wrong, image.subarray(0, 1000))).status).toBe(409);
    const both = await Promise.all([1, 2].map(() => patch(1000, image.subarray(1000, 2000))));
    expect(both.map(({ status }) => status).sort()).toEqual([204, 409]);
    expect(await offset()).toBe('2000');
  });

  it('begins again as often as its client wants, until it is finished', async () => {
    await create(500);
    await patch(0, image.subarray(0, 100));
    await create(2000);
    expect(await offset()).toBe('0');
    await patch(0, image.subarray(0, 2000));
    expect(await create()).toMatchObject({ status: 409, code: 'image.not_waiting' });
    expect(await patch(2000, Buffer.from('more'))).toMatchObject({ status: 422, code: 'image.too_large' });
    expect((await readFile((await open.door.uploaded(imageId))!)).equals(image.subarray(0, 2000))).toBe(true);
  });

  it('is refused when it is too large, or does not say how large', async () => {
    expect(await create(10 * MiB + 1)).toMatchObject({ status: 422, code: 'image.too_large' });
    expect(await tus('POST', { 'upload-defer-length': '1' })).toMatchObject({ status: 400, code: 'request.invalid' });
    expect((await tus('POST', {})).status).toBe(400);
    await expect(client(Buffer.alloc(11 * MiB)).send()).rejects.toThrow(DetailedError);
    await create(1000);
    expect(await patch(0, image.subarray(0, 1001))).toMatchObject({ status: 422, code: 'image.too_large' });
    expect(await offset()).toBe('0');
  });

  it('keeps what came before the disk was full, and goes on when there is room', async () => {
    await create();
    await patch(0, image.subarray(0, 1000));
    vi.mocked(writeSparse).mockRejectedValueOnce(Object.assign(new Error('no space'), { code: 'ENOSPC' }));
    expect(await patch(1000, image.subarray(1000, 2000))).toMatchObject({ status: 507, code: 'storage.full' });
    expect(await offset()).toBe('1000');
    expect((await patch(1000, image.subarray(1000))).status).toBe(204);
    expect((await readFile((await open.door.uploaded(imageId))!)).equals(image)).toBe(true);
  });

  it('is removed with its image, also while it comes', async () => {
    await create();
    const stuck = await stuckPatch(image.subarray(0, 1000));
    await open.door.forget(imageId);
    await open.door.forget(imageId);
    expect(await readdir(join(open.directory, 'uploads'))).toEqual([]);
    expect((await tus('HEAD', {})).status).toBe(404);
    expect((await patch(0, image)).status).toBe(404);
    expect(await open.door.progressOf(imageId)).toBeUndefined();
    stuck.destroy();
  });

  it('is nothing that a client can name, or read', async () => {
    await writeFile(join(open.directory, 'secret'), 'secret');
    await create();
    for (const path of ['../secret', '%2e%2e%2fsecret', imageId]) {
      const { url, ticket } = open.door.openUpload(limits());
      const headers = { authorization: `Bearer ${ticket}`, 'tus-resumable': '1.0.0' };
      expect((await fetch(`${url}/${path}`, { headers, method: 'HEAD' })).status).toBe(401);
    }
    for (const method of ['GET', 'DELETE', 'OPTIONS']) expect((await tus(method, {})).status).toBe(405);
    // A method in a header does not get around that.
    expect((await tus('POST', { 'x-http-method-override': 'DELETE', 'upload-length': '5' })).status).toBe(201);
    expect(await open.door.progressOf(imageId)).toMatchObject({ total: 5 });
  });

  it('lets no web page of others in', async () => {
    const { headers } = await tus('HEAD', { origin: 'https://evil.example' });
    expect(headers.get('access-control-allow-origin')).toBeNull();
  });
});
