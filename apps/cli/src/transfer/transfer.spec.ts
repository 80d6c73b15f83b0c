import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { events, type FakeGateway, ids, json, operationOf, refuse, samples, type Seen } from '../test/gateway.js';
import { operationPath, start } from '../test/setup.js';

const content = `GET /v1/projects/lab/images/${ids.image}/content`;
const diskContent = `GET /v1/projects/lab/disks/${ids.disk}/content`;
const bytes = Buffer.concat([randomBytes(150_000), Buffer.alloc(300_000), randomBytes(50_000), Buffer.alloc(100_000)]);

const withContent = async (terminal = false) => {
  const { gateway, person } = await start(terminal);
  gateway.on('GET /v1/projects/lab/images/debian', () => samples.image);
  gateway.on('GET /v1/projects/lab/disks/web-1', () => samples.disk);
  return { gateway, person, at: (name: string) => join(person.home, name) };
};
/** Answers with the bytes, or the range of them that was asked for; breaks off after `most` of them, once they have `arrived`. */
const serve =
  (most = Number.POSITIVE_INFINITY, arrived: (length: number) => Promise<void> = async () => {}) =>
  ({ headers }: Seen, response: ServerResponse) => {
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const rest = bytes.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': rest.length,
      ...(from > 0 && { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
    });
    if (rest.length <= most) response.end(rest);
    else response.write(rest.subarray(0, most), () => void arrived(from + most).then(() => response.destroy()));
  };
/** Waits until a part of this length is there. */
const partIn = (home: string) => (length: number) =>
  vi.waitFor(async () => {
    const part = (await readdir(home)).find((name) => name.endsWith('.part'));
    expect((await stat(join(home, part as string))).size).toBe(length);
  });
const ranges = (gateway: FakeGateway, line = content) => gateway.asked(line).map(({ headers }) => headers.range);

describe('a download', () => {
  it('is a file with the bytes, and with holes where they are nothing', async () => {
    const { gateway, person, at } = await withContent();
    gateway.on(content, serve());
    const { code, out, err } = await person.m2(['image', 'download', 'debian', 'golden.raw']);
    expect([code, out]).toEqual([0, `${at('golden.raw')}\n`]);
    expect(err).toMatch(/download: .*100%\n586 KiB\n$/);
    expect((await readFile(at('golden.raw'))).equals(bytes)).toBe(true);
    expect((await stat(at('golden.raw'))).blocks * 512).toBeLessThan(300_000);
    expect(await readdir(person.home)).toEqual(['golden.raw']);
    expect(gateway.asked(content)[0]).toMatchObject({ headers: { authorization: 'Bearer secret-token' } });
    expect(gateway.asked(content)[0]?.headers['accept-encoding']).toBe('identity');
  });

  it('that breaks off goes on from where it was', async () => {
    const { gateway, person, at } = await withContent();
    const arrived = partIn(person.home);
    gateway.on(content, serve(60_000, arrived), serve(60_000, arrived), refuse('service.unavailable', ''), serve());
    expect((await person.m2(['image', 'download', 'debian', 'golden.raw'])).code).toBe(0);
    expect((await readFile(at('golden.raw'))).equals(bytes)).toBe(true);
    expect(ranges(gateway)).toEqual([undefined, 'bytes=60000-', 'bytes=120000-', 'bytes=120000-']);
  });

  it('that was left goes on when it is run again, and begins anew when that cannot be', async () => {
    const { gateway, person, at } = await withContent();
    let stops = true;
    gateway.on(content, (seen, response) => {
      if (!stops) return serve()(seen, response);
      response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 70_000));
      return undefined;
    });
    const left = person.m2(['image', 'download', 'debian', 'golden.raw']);
    await vi.waitFor(async () => {
      const [part] = await readdir(person.home);
      expect(part).toMatch(/^golden\.raw\.\w{12}\.part$/);
      expect((await stat(at(part as string))).size).toBeGreaterThan(40_000);
    });
    expect(person.interrupt()).toBe(true);
    expect(await left).toMatchObject({ code: exitCodes.interrupted, out: '' });
    stops = false;
    const again = await person.m2(['image', 'download', 'debian', 'golden.raw', '--json']);
    expect(JSON.parse(again.out)).toMatchObject({ bytes: bytes.length, resumed: expect.any(Number) as number });
    expect(again.err).toContain('from an earlier try');
    expect((await readFile(at('golden.raw'))).equals(bytes)).toBe(true);
    expect(ranges(gateway).at(-1)).toMatch(/^bytes=\d+-$/);
  });

  it('whose rest is not there is begun anew', async () => {
    const { gateway, person, at } = await withContent();
    gateway.on(
      content,
      serve(60_000, partIn(person.home)),
      (_seen, response) => void response.writeHead(416).end(),
      serve(),
    );
    expect((await person.m2(['image', 'download', 'debian', 'golden.raw'])).code).toBe(0);
    expect((await readFile(at('golden.raw'))).equals(bytes)).toBe(true);
    expect(ranges(gateway)).toEqual([undefined, 'bytes=60000-', undefined]);
  });

  it('of what may change is not put together from parts', async () => {
    const { gateway, person } = await withContent();
    gateway.on(diskContent, serve(60_000)).on(content, serve(60_000));
    for (const args of [
      ['disk', 'download', 'web-1', 'd'],
      ['image', 'download', 'debian', 'd', '--format', 'qcow2'],
    ])
      expect([args, (await person.m2(args)).code]).toEqual([args, exitCodes.unreachable]);
    expect([...ranges(gateway, diskContent), ...ranges(gateway)]).toEqual([undefined, undefined]);
    expect(await readdir(person.home)).toEqual([]);
  });

  it('of a tag, or of what changed between two, says so', async () => {
    const { gateway, person, at } = await withContent();
    gateway.on(diskContent, serve());
    const diff = ['--format', 'rbd-diff', '--tag', 'v2', '--since', 'v1'];
    expect((await person.m2(['disk', 'download', 'web-1', 'd.diff', ...diff])).code).toBe(0);
    expect(Object.fromEntries(gateway.asked(diskContent)[0]!.query)).toEqual({
      format: 'rbd-diff',
      tag: 'v2',
      since: 'v1',
    });
    expect((await readFile(at('d.diff'))).equals(bytes)).toBe(true);
  });

  it('replaces no file unasked', async () => {
    const { gateway, person, at } = await withContent();
    gateway.on(content, serve());
    await writeFile(at('mine'), 'precious');
    const refused = await person.m2(['image', 'download', 'debian', 'mine']);
    expect([refused.code, refused.err.includes('--force')]).toEqual([exitCodes.conflict, true]);
    expect(await readFile(at('mine'), 'utf8')).toBe('precious');
    expect((await person.m2(['image', 'download', 'debian', '.', '--force'])).code).toBe(exitCodes.usage);
    expect(gateway.asked(content)).toEqual([]);
    expect((await person.m2(['image', 'download', 'debian', 'mine', '--force'])).code).toBe(0);
    expect((await readFile(at('mine'))).equals(bytes)).toBe(true);
  });

  it('goes to standard output, which then has nothing else', async () => {
    const { gateway, person } = await withContent();
    gateway.on(content, serve());
    const { code, out } = await person.m2(['image', 'download', 'debian', '-']);
    expect([code, Buffer.from(out, 'latin1').equals(bytes)]).toEqual([0, true]);
    gateway.on(content, serve(1_000));
    expect((await person.m2(['image', 'download', 'debian', '-'])).code).toBe(exitCodes.unreachable);
  });

  it('that is refused says why', async () => {
    const { gateway, person } = await withContent();
    gateway.on(content, refuse('image.not_ready', 'it is importing'));
    const { code, err } = await person.m2(['image', 'download', 'debian', 'x']);
    expect([code, err.includes('image.not_ready')]).toEqual([exitCodes.conflict, true]);
    expect(await readdir(person.home)).toEqual([]);
  });
});

const at = `/v1/projects/lab/images/${ids.image}/upload`;
const tus = { 'tus-resumable': '1.0.0' };

/** A gateway that takes an upload as tus says, and breaks the connection after each `most` bytes. */
const withUpload = async (most = Number.POSITIVE_INFINITY) => {
  const { gateway, person } = await start();
  const running = operationOf('running', {}, { kind: 'image.import', about: { image: ids.image } });
  const done = operationOf('succeeded', {}, { kind: 'image.import', about: { image: ids.image } });
  const got = { bytes: Buffer.alloc(0), length: '', metadata: '' };
  gateway.on('GET /v1/projects/lab/images', () => ({ items: [] }));
  gateway.on('POST /v1/projects/lab/images', (_seen, response) => json(response, 202, running));
  gateway.on(`GET /v1/projects/lab/images/${ids.image}`, refuse('image.not_found', 'not yet'), () => ({
    ...samples.image,
    state: 'importing',
  }));
  gateway.on('GET /v1/projects/lab/images/new', () => samples.image);
  gateway.on(operationPath, (seen, response) =>
    seen.headers.accept === 'text/event-stream' ? events(done)(seen, response) : running,
  );
  gateway.on(`POST ${at}`, ({ headers }, response) => {
    got.length = headers['upload-length'] as string;
    got.metadata = headers['upload-metadata'] as string;
    response.writeHead(201, { ...tus, location: at }).end();
  });
  gateway.on(`HEAD ${at}`, (_seen, response) => {
    const offset = String(got.bytes.length);
    response.writeHead(200, {
      ...tus,
      'upload-offset': offset,
      'upload-length': got.length,
      'upload-metadata': got.metadata,
    });
    response.end();
  });
  gateway.on(`PATCH ${at}`, ({ headers, raw }, response) => {
    if (Number(headers['upload-offset']) !== got.bytes.length) return void response.writeHead(409, tus).end();
    got.bytes = Buffer.concat([got.bytes, raw.subarray(0, most)]);
    if (raw.length > most) return void response.destroy();
    return void response.writeHead(204, { ...tus, 'upload-offset': String(got.bytes.length) }).end();
  });
  await writeFile(join(person.home, 'local.raw'), bytes);
  const waiting = () => {
    gateway.on('GET /v1/projects/lab/images', () => ({
      items: [{ ...samples.image, name: 'new', state: 'importing' }],
    }));
    gateway.on('GET /v1/operations', () => ({ items: [running] }));
  };
  return { gateway, person, got, waiting };
};
const send = ['image', 'import', 'new', '--upload', 'local.raw'];
const sum = (data: Buffer) => createHash('sha256').update(data).digest('hex');

describe('an upload', () => {
  it('begins an import, sends the file and waits for the end', async () => {
    const { gateway, person, got } = await withUpload();
    const { code, out, err } = await person.m2(send);
    expect([code, sum(got.bytes)]).toEqual([0, sum(bytes)]);
    expect(out).toMatch(/^name +debian$/m);
    expect(err).toMatch(/upload: .*100%\n/);
    expect(gateway.asked('POST /v1/projects/lab/images')[0]?.body).toEqual({ name: 'new', source: { kind: 'upload' } });
    expect(gateway.asked(`PATCH ${at}`)[0]?.headers).toMatchObject({
      authorization: 'Bearer secret-token',
      'content-type': 'application/offset+octet-stream',
      'content-length': String(bytes.length),
    });
    // Its name tells what was sent; the path is nobody's business.
    expect(got.metadata).toContain(Buffer.from('local.raw').toString('base64'));
  });

  it('that breaks off goes on from where it was', async () => {
    const { gateway, person, got } = await withUpload(200_000);
    expect((await person.m2(send)).code).toBe(0);
    expect(sum(got.bytes)).toBe(sum(bytes));
    expect(gateway.asked(`POST ${at}`)).toHaveLength(1);
    expect(gateway.asked(`PATCH ${at}`).length).toBeGreaterThan(1);
  });

  it('that was left goes on when the command is run again, and only with the same file', async () => {
    const { gateway, person, got, waiting } = await withUpload();
    const { size, mtimeMs } = await stat(join(person.home, 'local.raw'));
    got.bytes = bytes.subarray(0, 123_456);
    got.length = String(bytes.length);
    got.metadata = `fingerprint ${Buffer.from(`${size}-${Math.round(mtimeMs)}`).toString('base64')}`;
    waiting();
    await utimes(join(person.home, 'local.raw'), 1, 1);
    const other = await person.m2(send);
    expect([other.code, other.err.includes('another file')]).toEqual([exitCodes.conflict, true]);
    expect(gateway.asked(`PATCH ${at}`)).toEqual([]);
    await utimes(join(person.home, 'local.raw'), mtimeMs / 1000, mtimeMs / 1000);
    expect((await person.m2(send)).code).toBe(0);
    expect(sum(got.bytes)).toBe(sum(bytes));
    expect(gateway.asked('POST /v1/projects/lab/images')).toEqual([]);
    expect(gateway.asked(`POST ${at}`)).toEqual([]);
  });

  it('that was left before its first byte is begun', async () => {
    const { gateway, person, got, waiting } = await withUpload();
    waiting();
    gateway.on(`HEAD ${at}`, (_seen, response) => void response.writeHead(404).end());
    expect((await person.m2(send)).code).toBe(0);
    expect(sum(got.bytes)).toBe(sum(bytes));
  });

  it('that is left says how to go on, and how to give it up', async () => {
    const { gateway, person } = await withUpload();
    gateway.on(`PATCH ${at}`, () => undefined);
    const left = person.m2(send);
    await vi.waitFor(() => expect(gateway.asked(`PATCH ${at}`)).toHaveLength(1));
    person.interrupt();
    const { code, err } = await left;
    expect(code).toBe(exitCodes.interrupted);
    expect(err).toContain('Run the same command again');
    expect(err).toContain(`m2 operation cancel ${ids.operation}`);
  });

  it('that is refused says why, as the operation does where it has ended', async () => {
    const full = await withUpload();
    full.gateway.on(`PATCH ${at}`, refuse('storage.full', 'The pool is full'));
    const refused = await full.person.m2(send);
    expect([refused.code, refused.err.includes('storage.full')]).toEqual([exitCodes.failed, true]);
    expect(full.gateway.asked(`PATCH ${at}`)).toHaveLength(1);
    const gone = await withUpload();
    const error = { code: 'operation.cancelled', detail: 'Cancelled on request' };
    gone.gateway.on(`PATCH ${at}`, refuse('image.not_found', 'it is gone'));
    gone.gateway.on(
      operationPath,
      () => operationOf('running'),
      () => operationOf('cancelled', {}, { error }),
    );
    expect((await gone.person.m2(send)).err).toContain('operation.cancelled');
  });

  it('sends the token nowhere else', async () => {
    const { gateway, person } = await withUpload();
    const { gateway: evil } = await start();
    gateway.on(
      `POST ${at}`,
      (_seen, response) => void response.writeHead(201, { ...tus, location: `${evil.url}/x` }).end(),
    );
    expect((await person.m2(send)).err).toContain('cli.protocol');
    expect(evil.seen).toEqual([]);
  });
});
