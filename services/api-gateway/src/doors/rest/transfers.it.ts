import { M2Error, toProblem } from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { buffer, json } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Door } from '../../testing/door.js';
import { openGateway, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let lab: { id: string };
let member: string;
let door: Door;

beforeAll(async () => {
  gateway = await openGateway();
  door = await Door.open();
  lab = await gateway.project('lab');
  member = await gateway.token('member', 'lab');
  gateway.standIns.addImage('golden', lab.id);
  gateway.standIns.addImage('half', lab.id, { state: 'importing' });
});
beforeEach(() => {
  gateway.standIns.storage.door = { url: `${door.origin}/open/7?as=raw`, ticket: 'one-time' };
  door.seen.length = 0;
});
afterAll(async () => {
  door?.close();
  await gateway?.close();
});

const golden = '/v1/projects/lab/images/golden/content';
const upload = '/v1/projects/lab/images/half/upload';
const piece = { 'content-type': 'application/offset+octet-stream' };
const tus = { 'tus-resumable': '1.0.0' };
const code = ({ status, body }: { status: number; body: never }) => [status, (body as { code?: string })?.code];
/** A request whose body is sent bit by bit; it tells of its answer and its end. */
const send = (path: string, headers: Record<string, string>, method = 'PATCH', origin = gateway.origin) => {
  const sent = httpRequest(`${origin}${path}`, { method, headers: { authorization: `Bearer ${member}`, ...headers } });
  const broken = new Promise<void>((resolve) => sent.on('error', () => resolve()).on('close', () => resolve()));
  const answered = once(sent, 'response').then(([response]) => response as IncomingMessage);
  answered.catch(() => {});
  return { sent, answered, broken };
};
/** A token that the test will revoke. */
const shortLived = async () =>
  (await gateway.ask('POST', '/v1/tokens', { body: { name: 'short', role: 'member', project: 'lab' } })).body as {
    id: string;
    value: string;
  };
/** Writes until there is an answer or an end, as a client does that has a lot to send. */
const flood = async (sent: ClientRequest, end: Promise<unknown>) => {
  const over = new AbortController();
  void end.then(() => over.abort());
  while (!over.signal.aborted && !sent.destroyed)
    if (!sent.write(Buffer.alloc(65_536))) await Promise.race([once(sent, 'drain').catch(() => {}), end]);
};

describe('a download', () => {
  it('is what comes out of the door that the service opened for it', async () => {
    const bytes = randomBytes(5_000_000);
    door.handle = (_request, response) => {
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
        'content-length': bytes.length,
        'content-disposition': 'attachment; filename="golden.raw"',
        'accept-ranges': 'bytes',
        etag: '"1"',
        'set-cookie': 'a=b',
        server: 'inside',
        'x-powered-by': 'inside',
      });
      response.end(bytes);
    };
    const response = await fetch(`${gateway.origin}${golden}?format=raw`, {
      headers: { authorization: `Bearer ${member}` },
    });
    expect(response.status).toBe(200);
    expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-length': '5000000',
      'content-disposition': 'attachment; filename="golden.raw"',
      'accept-ranges': 'bytes',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      etag: '"1"',
    });
    for (const name of ['set-cookie', 'server', 'x-powered-by'])
      expect([name, response.headers.get(name)]).toEqual([name, null]);
  });

  it('is asked for with the ticket, and with nothing of who asks', async () => {
    door.handle = (_request, response) => response.writeHead(206, { 'content-range': 'bytes 5-6/9' }).end('ab');
    const answer = await gateway.ask('GET', `${golden}?format=qcow2`, {
      token: member,
      headers: {
        cookie: 'session=secret',
        range: 'bytes=5-6',
        'if-range': '"1"',
        'x-http-method-override': 'DELETE',
        'x-forwarded-host': 'evil.example.org',
        'proxy-authorization': 'Basic c2VjcmV0',
        'x-api-key': 'secret',
      },
    });
    expect([answer.status, answer.text, answer.headers.get('content-range')]).toEqual([206, 'ab', 'bytes 5-6/9']);
    const { method, url, headers } = door.last;
    expect([method, url]).toEqual(['GET', '/open/7?as=raw']);
    expect(headers).toEqual({
      host: door.origin.slice('http://'.length),
      connection: 'keep-alive',
      authorization: 'Bearer one-time',
      range: 'bytes=5-6',
      'if-range': '"1"',
      traceparent: expect.any(String) as string,
    });
    expect(gateway.standIns.storage.doors.at(-1)).toMatchObject({
      project: lab.id,
      purpose: 'download',
      format: 'qcow2',
    });
  });

  it('with HEAD is its headers', async () => {
    door.handle = (_request, response) => response.writeHead(200, { 'content-length': 9, etag: '"1"' }).end();
    const answer = await gateway.ask('HEAD', golden, { token: member });
    expect([answer.status, answer.headers.get('content-length'), door.last.method]).toEqual([200, '9', 'HEAD']);
    expect((await gateway.ask('HEAD', golden, { token: undefined })).status).toBe(401);
  });

  it('of a disk is of its tag, or of the disk that no node uses', async () => {
    const disk = gateway.standIns.storage.addDisk('web', lab.id, { holder: lab.id });
    const [v1, v2] = ['v1', 'v2'].map((name) => gateway.standIns.storage.addTag(name, disk));
    const auditor = await gateway.token('auditor', 'lab');
    const at = '/v1/projects/lab/disks/web/content';
    door.handle = (_request, response) => response.end('diff');
    const answer = await gateway.ask('GET', `${at}?tag=v2&since=v1&format=rbd-diff`, { token: auditor });
    expect([answer.status, answer.text]).toEqual([200, 'diff']);
    expect(gateway.standIns.storage.doors.at(-1)).toEqual({
      project: lab.id,
      disk: disk.id,
      tag: v2!.id,
      since: v1!.id,
      format: 'rbd-diff',
    });
    for (const [query, status, expected] of [
      ['', 409, 'disk.in_use'],
      ['?tag=v3', 404, 'tag.not_found'],
      ['?tag=v2&since=v1', 400, 'request.invalid'],
      ['?tag=v2&format=vmdk', 400, 'request.invalid'],
    ] as const)
      expect([query, code(await gateway.ask('GET', at + query, { token: auditor }))]).toEqual([
        query,
        [status, expected],
      ]);
    expect(code(await gateway.ask('GET', '/v1/projects/lab/images/half/content'))).toEqual([409, 'image.not_ready']);
  });

  it('that the client leaves is left by the gateway', async () => {
    const closed = Promise.withResolvers<string>();
    door.handle = (_request, response) => {
      response.on('close', () => closed.resolve('left')).on('error', () => {});
      const more = () => void (response.destroyed || response.write(Buffer.alloc(65_536), more));
      more();
    };
    const { sent, answered } = send(golden, {}, 'GET');
    sent.end();
    await once(await answered, 'readable');
    sent.destroy();
    expect(await closed.promise).toBe('left');
  });

  it('breaks off when the token of who asked is revoked', async () => {
    const closed = Promise.withResolvers<string>();
    door.handle = (_request, response) => {
      response.on('close', () => closed.resolve('left')).on('error', () => {});
      response.writeHead(200).write('some');
    };
    const { id, value } = await shortLived();
    const { sent, answered } = send(golden, { authorization: `Bearer ${value}` }, 'GET');
    sent.end();
    const response = await answered;
    await once(response, 'readable');
    await gateway.ask('DELETE', `/v1/tokens/${id}`);
    await expect(buffer(response)).rejects.toThrow('aborted');
    expect(await closed.promise).toBe('left');
  });

  it('that breaks off inside does not look as if it were complete', async () => {
    door.handle = (_request, response) => {
      response.writeHead(200, { 'content-length': 1_000_000 });
      response.write(Buffer.alloc(1_000), () => response.destroy());
    };
    const { sent, answered } = send(golden, {}, 'GET');
    sent.end();
    await expect(buffer(await answered)).rejects.toThrow('aborted');
  });
});

describe('an upload', () => {
  it('is begun, looked at and gone on with at one address, whatever the service calls it', async () => {
    door.handle = (request, response) => {
      request.resume();
      if (request.method === 'POST')
        response.writeHead(201, { ...tus, location: `${door.origin}/files/secret`, 'upload-expires': 'Thu' }).end();
      else if (request.method === 'HEAD')
        response.writeHead(200, { ...tus, 'upload-offset': '3', 'upload-length': '7' }).end();
      else request.on('end', () => response.writeHead(204, { ...tus, 'upload-offset': '7' }).end());
    };
    const begun = await gateway.ask('POST', upload, {
      token: member,
      headers: { ...tus, 'upload-length': '7', 'upload-metadata': 'name Z29sZGVu' },
    });
    expect([begun.status, begun.headers.get('location'), begun.headers.get('upload-expires')]).toEqual([
      201,
      upload,
      'Thu',
    ]);
    expect(door.last.headers).toMatchObject({ ...tus, 'upload-length': '7', 'upload-metadata': 'name Z29sZGVu' });
    const seen = await gateway.ask('HEAD', upload, { token: member, headers: tus });
    expect([seen.status, seen.headers.get('upload-offset'), seen.headers.get('upload-length')]).toEqual([
      200,
      '3',
      '7',
    ]);
    const { sent, answered } = send(upload, { ...tus, ...piece, 'upload-offset': '3' });
    sent.end('more');
    const done = await answered;
    expect([done.statusCode, done.headers['upload-offset'], done.headers['tus-resumable']]).toEqual([
      204,
      '7',
      '1.0.0',
    ]);
    expect(door.last.headers).toMatchObject({ ...piece, 'upload-offset': '3', authorization: 'Bearer one-time' });
    expect(gateway.standIns.storage.doors.slice(-3)).toMatchObject(
      Array.from({ length: 3 }, () => ({ project: lab.id, purpose: 'upload' })),
    );
  });

  it('is passed on as it comes, and may be larger than any other body', async () => {
    const bytes = randomBytes(4_000_000);
    const got = Promise.withResolvers<Buffer>();
    const first = Promise.withResolvers<void>();
    door.handle = (request, response) => {
      request.once('data', () => first.resolve());
      got.resolve(buffer(request));
      void got.promise.then(() => response.writeHead(204, tus).end());
    };
    const { sent, answered } = send(upload, { ...tus, ...piece, 'upload-offset': '0', 'content-length': '4000000' });
    sent.write(bytes.subarray(0, 1_000));
    await first.promise;
    sent.end(bytes.subarray(1_000));
    expect((await answered).statusCode).toBe(204);
    expect((await got.promise).equals(bytes)).toBe(true);
    expect(door.last.headers['content-length']).toBe('4000000');
  });

  it('that the client leaves is left by the gateway', async () => {
    const aborted = Promise.withResolvers<Error>();
    door.handle = (request) => request.on('error', aborted.resolve).resume();
    const { sent } = send(upload, { ...tus, ...piece, 'upload-offset': '0' });
    sent.write('some');
    await until('it has come', () => door.seen.length > 0);
    sent.destroy();
    expect(await aborted.promise).toMatchObject({ code: 'ECONNRESET' });
  });

  it('is told why, in the middle, when the token of who sends is revoked', async () => {
    const aborted = Promise.withResolvers<Error>();
    door.handle = (request) => request.on('error', aborted.resolve).resume();
    const { id, value } = await shortLived();
    const authorization = `Bearer ${value}`;
    const { sent, answered, broken } = send(upload, { ...tus, ...piece, authorization, 'upload-offset': '0' });
    sent.write('some');
    await until('it has come', () => door.seen.length > 0);
    await gateway.ask('DELETE', `/v1/tokens/${id}`);
    const response = await answered;
    expect([response.statusCode, await json(response)]).toMatchObject([401, { code: 'auth.invalid' }]);
    expect(await aborted.promise).toMatchObject({ code: 'ECONNRESET' });
    sent.destroy();
    await broken;
  });

  it('is told why it is refused in the middle, and not listened to for ever', async () => {
    const problem = toProblem(new M2Error('storage.full', 'The pool is full'));
    door.handle = (request, response) => {
      request.once('data', () => {
        request.resume();
        response.writeHead(507, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
      });
    };
    const { sent, answered, broken } = send(upload, { ...tus, ...piece, 'upload-offset': '0' });
    const told = answered.then(async (response) => [response.statusCode, await json(response)]);
    await flood(sent, Promise.race([told, broken]));
    expect(await told).toEqual([507, problem]);
    await flood(sent, broken);
    expect(sent.destroyed).toBe(true);
  });

  it('is told something when the service closes the connection in the middle', async () => {
    door.handle = (request) => request.once('data', () => request.socket.destroy());
    const { sent, answered, broken } = send(upload, { ...tus, ...piece, 'upload-offset': '0' });
    const told = answered.then(async (response) => [response.statusCode, await json(response)]);
    await flood(sent, Promise.race([told, broken]));
    expect(await told).toMatchObject([503, { code: 'service.unavailable' }]);
    sent.destroy();
  });

  it('is refused before it is sent when nobody waits for it, or who sends it may not', async () => {
    const auditor = await gateway.token('auditor', 'lab');
    for (const [path, token, status, expected] of [
      [upload, '', 401, 'auth.missing'],
      [upload, `Bearer ${auditor}`, 403, 'auth.forbidden'],
      [upload.replace('half', 'golden'), `Bearer ${member}`, 409, 'image.not_waiting'],
      [upload.replace('half', 'nothing'), `Bearer ${member}`, 404, 'image.not_found'],
    ] as const) {
      const { sent, answered, broken } = send(path, { ...tus, ...piece, authorization: token });
      const told = answered.then(async (response) => [response.statusCode, await json(response)]);
      await flood(sent, Promise.race([told, broken]));
      expect([path, await told]).toMatchObject([path, [status, { code: expected }]]);
      sent.destroy();
    }
    expect(door.seen).toHaveLength(0);
  });

  it('is bytes, and bytes are an upload', async () => {
    const asJson = await gateway.ask('PATCH', upload, { token: member, body: { a: 1 }, headers: tus });
    expect(code(asJson)).toEqual([415, 'request.unsupported_media_type']);
    for (const [method, path] of [
      ['POST', '/v1/projects'],
      ['PATCH', '/v1/projects/lab/images/golden'],
      ['POST', '/v1/projects/lab/images'],
    ] as const) {
      const answer = await gateway.ask(method, path, {
        body: '{"name":"x"}',
        headers: { ...piece, 'idempotency-key': 'k' },
      });
      expect([path, code(answer)]).toEqual([path, [415, 'request.unsupported_media_type']]);
    }
    expect(door.seen).toHaveLength(0);
  });
});

describe('a door', () => {
  it('that refuses is heard, unless it is our ticket that it refuses', async () => {
    const problem = toProblem(new M2Error('image.not_waiting', 'It is complete'));
    door.handle = (_request, response) =>
      response.writeHead(409, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
    const refused = await gateway.ask('GET', golden, { token: member });
    expect([refused.status, refused.body]).toEqual([409, problem]);
    expect(refused.headers.get('content-type')).toBe('application/problem+json');
    door.handle = (_request, response) => response.writeHead(401, { 'www-authenticate': 'Bearer' }).end('who?');
    const late = await gateway.ask('GET', golden, { token: member });
    expect(code(late)).toEqual([503, 'service.unavailable']);
    expect(late.headers.get('www-authenticate')).toBeNull();
    // Neither is tried again: the ticket is used up.
    expect(door.seen).toHaveLength(2);
    door.handle = (_request, response) => response.writeHead(503, { 'retry-after': '0' }).end();
    expect((await gateway.ask('GET', golden, { token: member })).status).toBe(503);
    expect(door.seen).toHaveLength(3);
  });

  it('that is closed is a service that does not answer', async () => {
    const closed = await Door.open();
    gateway.standIns.storage.door = { url: closed.origin, ticket: 'x' };
    closed.close();
    expect(code(await gateway.ask('GET', golden, { token: member }))).toEqual([503, 'service.unavailable']);
    door.handle = (request) => request.socket.destroy();
    gateway.standIns.storage.door = { url: door.origin, ticket: 'x' };
    expect(code(await gateway.ask('GET', golden, { token: member }))).toEqual([503, 'service.unavailable']);
  });

  it('is http, and nothing else', async () => {
    for (const url of ['https://127.0.0.1:1/', 'file:///etc/passwd', 'unix+http://%2Frun%2Fx/']) {
      gateway.standIns.storage.door = { url, ticket: 'x' };
      expect([url, code(await gateway.ask('GET', golden, { token: member }))]).toEqual([url, [500, 'internal']]);
    }
  });

  it('through which nothing moves any more is shut, whoever stands still', async () => {
    const impatient = await gateway.replica({ M2_TRANSFER_IDLE_SECONDS: '0.2', M2_INSTANCE: 'impatient' });
    const shut = Promise.withResolvers<void>();
    door.handle = (request) => request.on('error', () => shut.resolve()).resume();
    const silent = send(upload, { ...tus, ...piece, 'upload-offset': '0' }, 'PATCH', impatient.origin);
    silent.sent.write('some');
    expect(await json(await silent.answered)).toMatchObject({ code: 'request.deadline' });
    await shut.promise;
    const left = Promise.withResolvers<void>();
    door.handle = (_request, response) => {
      response.on('close', () => left.resolve());
      response.writeHead(200, { 'content-length': 10 }).write('half');
    };
    const half = send(golden, {}, 'GET', impatient.origin);
    half.sent.end();
    await expect(buffer(await half.answered)).rejects.toThrow('aborted');
    await left.promise;
    await impatient.stop();
  });
});
