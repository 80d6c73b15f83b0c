import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openDoor, type TestDoor } from './door.fixture.js';
import { MemoryVolume } from './memory-volume.fixture.js';
import type { Download } from './send-volume.js';

const MiB = 2 ** 20;
let open: TestDoor;
let volume: MemoryVolume;

beforeEach(async () => {
  open = await openDoor();
  volume = new MemoryVolume(5 * MiB, [
    [0, randomBytes(MiB + 5)],
    [3 * MiB, randomBytes(1000)],
  ]);
  open.volumes.set('a1img1', volume);
});
afterEach(() => open.close());

const golden: Download = { readable: { golden: 'a1img1' }, name: 'debian-12', format: 'raw' };
const get = (download: Download, headers: Record<string, string> = {}, method = 'GET') => {
  const { url, ticket } = open.door.openDownload(download);
  return fetch(url, { method, headers: { ...headers, authorization: `Bearer ${ticket}` } });
};
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());

describe('a raw download', () => {
  it('is the volume, with its length and a name', async () => {
    const response = await get(golden);
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-length': String(5 * MiB),
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment; filename="debian-12.raw"',
      'accept-ranges': 'bytes',
      etag: expect.stringMatching(/^"[\w-]{43}"$/),
    });
    expect((await bytesOf(response)).equals(volume.bytes())).toBe(true);
    await vi.waitFor(() => expect(volume.isOpen).toBe(false));
  });

  it('tells a HEAD the same, without reading', async () => {
    const response = await get(golden, {}, 'HEAD');
    expect([response.status, response.headers.get('content-length')]).toEqual([200, String(5 * MiB)]);
    expect(volume.reads).toEqual([]);
  });

  it.each([
    ['bytes=0-99', 0, 100],
    ['bytes=1048000-3146000', 1_048_000, 3_146_001],
    ['bytes=-512', 5 * MiB - 512, 5 * MiB],
  ])('answers the range %s', async (range, start, end) => {
    const response = await get(golden, { range });
    expect(response.status).toBe(206);
    expect(response.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/${5 * MiB}`);
    expect((await bytesOf(response)).equals(volume.bytes(start, end - start))).toBe(true);
  });

  it('has nothing behind its end', async () => {
    const response = await get(golden, { range: `bytes=${5 * MiB}-` });
    expect([response.status, response.headers.get('content-range')]).toEqual([416, `bytes */${5 * MiB}`]);
  });

  it('goes on only if it is still the same', async () => {
    const etag = (await get(golden, {}, 'HEAD')).headers.get('etag')!;
    const range = 'bytes=10-19';
    expect((await get(golden, { range, 'if-range': etag })).status).toBe(206);
    for (const other of ['"other"', `W/${etag}`, 'Sun, 01 Nov 2026 10:00:00 GMT']) {
      const response = await get(golden, { range, 'if-range': other });
      expect([response.status, (await bytesOf(response)).length]).toEqual([200, 5 * MiB]);
    }
  });

  it('of a tag has an identity of its own, and one of a disk that may be written to has none', async () => {
    open.volumes.set('a1img2', new MemoryVolume(512, []));
    const disk = { project: 'p', name: 'a1img2' };
    const etagOf = async (readable: Download['readable']) =>
      (await get({ ...golden, readable }, {}, 'HEAD')).headers.get('etag');
    const tags = [
      await etagOf({ disk, tag: 'a' }),
      await etagOf({ disk, tag: 'b' }),
      await etagOf({ golden: 'a1img1' }),
    ];
    expect(new Set(tags).size).toBe(3);
    expect(await etagOf({ disk })).toBeNull();
  });
});

describe('a download in another format', () => {
  it('is a qcow2 file of known length, that QEMU takes', async () => {
    const response = await get({ ...golden, format: 'qcow2' }, { range: 'bytes=0-9' });
    expect([response.status, response.headers.get('accept-ranges')]).toEqual([200, null]);
    const bytes = await bytesOf(response);
    expect(response.headers.get('content-length')).toBe(String(bytes.length));
    const [qcow2, raw] = [join(open.directory, 'disk.qcow2'), join(open.directory, 'disk.raw')];
    await Promise.all([writeFile(qcow2, bytes), writeFile(raw, volume.bytes())]);
    await promisify(execFile)('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', qcow2, raw]);
  });

  it('is a diff between two tags, by their own names', async () => {
    open.volumes.set('a1img2', new MemoryVolume(512, [], [{ offset: 0, length: 512, data: false }]));
    const readable = { disk: { project: 'p', name: 'a1img2' }, tag: 'after' };
    const bytes = await bytesOf(await get({ readable, name: 'd', format: 'rbd-diff', since: 'before' }));
    const names = ['f\x06\0\0\0before', 't\x05\0\0\0after'];
    expect(bytes.toString('latin1', 0, 33)).toBe(`rbd diff v1\n${names.join('')}`);
    expect(bytes.length).toBe(33 + 9 + 17 + 1);
  });
});

describe('the door', () => {
  it('opens to nobody without a good ticket', async () => {
    const { url, ticket } = open.door.openDownload(golden);
    const upload = open.door.openUpload({ imageId: 'i', maxBytes: 1 });
    const refused = async (headers: Record<string, string>, at = url) => {
      const response = await fetch(at, { headers });
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      return [response.status, ((await response.json()) as { code: string }).code];
    };
    expect(await refused({})).toEqual([401, 'auth.missing']);
    expect(await refused({ authorization: `Bearer ${'A'.repeat(43)}` })).toEqual([401, 'auth.invalid']);
    expect(await refused({ authorization: `Basic ${ticket}` })).toEqual([401, 'auth.missing']);
    // Nor with a ticket for the other direction, or for another path.
    expect(await refused({ authorization: `Bearer ${upload.ticket}` })).toEqual([401, 'auth.invalid']);
    const aside = open.door.openDownload(golden);
    expect(await refused({ authorization: `Bearer ${aside.ticket}` }, `${url}/../etc/passwd`)).toEqual([
      401,
      'auth.invalid',
    ]);
    expect((await fetch(url, { headers: { authorization: `Bearer ${ticket}` } })).status).toBe(200);
    expect(await refused({ authorization: `Bearer ${ticket}` })).toEqual([401, 'auth.invalid']);
  });

  it('answers other methods, and what the storage has not, with a problem', async () => {
    const post = await get(golden, {}, 'POST');
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    const missing = await get({ ...golden, readable: { golden: 'a1img9' } });
    expect((await missing.json()) as object).toMatchObject({ code: 'storage.not_found' });
  });

  it('cuts the connection when the storage fails on the way, so that a part is not taken for all', async () => {
    vi.spyOn(volume, 'read').mockImplementation(async (offset, length) => {
      if (offset >= MiB) throw Object.assign(new Error('the OSD is gone'), { code: 'storage.timeout' });
      return volume.bytes(offset, length);
    });
    const response = await get(golden);
    expect(response.status).toBe(200);
    await expect(response.arrayBuffer()).rejects.toThrow('terminated');
    await vi.waitFor(() => expect(open.logged.error).toHaveLength(1));
    expect(volume.isOpen).toBe(false);
  });

  it('closes what it reads when its client goes away, and waits for that when the service stops', async () => {
    const big = new MemoryVolume(2 ** 40, []);
    big.extents = async function* () {
      yield { offset: 0, length: 2 ** 40, data: true };
    };
    open.volumes.set('a1img3', big);
    for (const leave of ['client', 'service']) {
      const { url, ticket } = open.door.openDownload({ ...golden, readable: { golden: 'a1img3' } });
      const client = request(url, { headers: { authorization: `Bearer ${ticket}` } }).end();
      client.on('error', () => {});
      await new Promise<void>((resolve) => client.on('response', (response) => response.once('data', () => resolve())));
      if (leave === 'client') client.destroy();
      else await open.restart();
      await vi.waitFor(() => expect(big.isOpen).toBe(false));
      // With back-pressure: when a client stops reading, the service stops reading the volume.
      expect(big.reads.length).toBeLessThan(200);
    }
    expect(open.logged.error).toEqual([]);
  });

  it('says where the gateway reaches it, or must be told', async () => {
    const advertised = await openDoor({ transferAdvertised: 'http://image-0.example:7000/' });
    expect(advertised.door.openDownload(golden).url).toBe('http://image-0.example:7000/download');
    await advertised.close();
    await expect(openDoor({ transferListen: { host: '0.0.0.0', port: 0 } })).rejects.toThrow('M2_TRANSFER_ADVERTISED');
  });
});
