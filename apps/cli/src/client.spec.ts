import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { M2Client } from './client.js';
import { ApiError, CliError, UnreachableError } from './errors.js';
import { exitCodes } from './exit-codes.js';
import { events, FakeGateway, ids, json, operationOf, refuse, samples } from './test/gateway.js';

const client = (gateway: FakeGateway, options: object = {}) =>
  new M2Client({ url: gateway.url, token: 'secret-token', attempts: 3, deadline: 5000, ...options });

const disks = 'POST /v1/projects/lab/disks';
const createDisk = { params: { project: 'lab' }, body: { name: 'web-1', image: 'debian' } };

const page = (names: string[], next?: string) => () => ({
  items: names.map((name) => ({ ...samples.project, name })),
  ...(next && { next }),
});

const pages = async () => {
  const gateway = await FakeGateway.start();
  return gateway.on('GET /v1/projects', page(['a', 'b'], 'after-b'), page(['c']));
};

const event = (n: number) => ({
  id: ids.disk,
  sequence: String(n),
  type: 'image.disk.created',
  project: null,
  time: samples.project.createdAt,
  traceparent: null,
  data: {},
});

describe('a call', () => {
  it('carries the token, and hands on what came, unknown fields included', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => ({ ...samples.whoami, newer: 1 }));
    expect(await client(gateway).call('whoami')).toEqual({ ...samples.whoami, newer: 1 });
    expect(gateway.seen[0]?.headers.authorization).toBe('Bearer secret-token');
  });

  it('that starts an operation is tried again with the same Idempotency-Key when the connection breaks', async () => {
    const gateway = await FakeGateway.start();
    gateway.on(
      disks,
      (_seen, response) => response.destroy() && undefined,
      refuse('service.unavailable', 'image-svc restarts'),
      (_seen, response) => json(response, 202, operationOf('running')),
    );
    expect((await client(gateway).call('diskCreate', createDisk)).id).toBe(ids.operation);
    const keys = gateway.asked(disks).map(({ headers }) => headers['idempotency-key']);
    expect(keys).toHaveLength(3);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(keys).size).toBe(1);
  });

  it('has a new Idempotency-Key when it is made anew', async () => {
    const gateway = await FakeGateway.start();
    gateway.on(disks, (_seen, response) => json(response, 202, operationOf('running')));
    await client(gateway).call('diskCreate', createDisk);
    await client(gateway).call('diskCreate', createDisk);
    const keys = gateway.asked(disks).map(({ headers }) => headers['idempotency-key']);
    expect(new Set(keys).size).toBe(2);
  });

  it('that makes something is repeated under the same key', async () => {
    const gateway = await FakeGateway.start();
    const lost = (_seen: unknown, response: { destroy(): unknown }) => response.destroy() && undefined;
    gateway.on('POST /v1/projects', lost, () => samples.project);
    await client(gateway).call('projectCreate', { body: { name: 'lab' } });
    const keys = gateway.seen.map(({ headers }) => headers['idempotency-key']);
    expect([keys.length, new Set(keys).size]).toEqual([2, 1]);
  });

  it('that is not answered says so while it waits, asks once more, and ends with what was wrong', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => new Promise(() => {}));
    const told: string[] = [];
    const asking = client(gateway, { deadline: 200, notice: 50, onWait: (what: string) => told.push(what) });
    await expect(asking.call('whoami')).rejects.toMatchObject({
      code: 'cli.unreachable',
      detail: `${gateway.url}: no answer within 0.2 s`,
      exitCode: exitCodes.unreachable,
    });
    expect(gateway.seen).toHaveLength(2);
    expect(told).toEqual([
      `${gateway.url} has not answered for 0.05 s; it is waited for, up to 0.2 s`,
      `${gateway.url} did not answer within 0.2 s; it is asked again`,
    ]);
  });

  it('of a gateway that hung and is started again meanwhile is answered by the new one', async () => {
    const gateway = await FakeGateway.start();
    const told: string[] = [];
    const lost = (_seen: unknown, response: { destroy(): unknown }) => response.destroy() && undefined;
    const hung = Promise.withResolvers<void>();
    const onWait = (what: string) => {
      told.push(what);
      hung.resolve();
    };
    const hangs = async (_seen: unknown, response: { destroy(): unknown }) => {
      await hung.promise;
      response.destroy();
    };
    gateway.on('POST /v1/projects', hangs, lost, lost, () => samples.project);
    const asking = client(gateway, { attempts: 2, notice: 1, onWait });
    await asking.call('projectCreate', { body: { name: 'lab' } });
    expect(new Set(gateway.seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    expect(told.slice(0, 2)).toEqual([
      `${gateway.url} has not answered for 0.001 s; it is waited for, up to 5 s`,
      `${gateway.url} went away without an answer; it is tried again for 120 s`,
    ]);
  });

  it('that must not be repeated is not repeated when its answer was lost', async () => {
    const gateway = await FakeGateway.start();
    gateway.on('DELETE /v1/projects/lab', (_seen, response) => response.destroy() && undefined);
    const deleted = client(gateway).call('projectDelete', { params: { project: 'lab' } });
    await expect(deleted).rejects.toThrow(UnreachableError);
    expect(gateway.seen).toHaveLength(1);
    expect(gateway.seen[0]?.headers).not.toHaveProperty('idempotency-key');
  });

  it('gives up when nothing listens', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    const error = await new M2Client({ url: `http://127.0.0.1:${port}`, attempts: 2 }).call('whoami').catch((e) => e);
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error).toMatchObject({
      exitCode: exitCodes.unreachable,
      detail: expect.stringContaining('connection refused'),
    });
  });

  it('ends at its deadline when the gateway hangs', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => undefined);
    const call = client(gateway, { deadline: 50, attempts: 1 }).call('whoami');
    await expect(call).rejects.toThrow(UnreachableError);
  });

  it('turns problem details into an error with all that they say', async () => {
    const gateway = (await FakeGateway.start()).on(disks, refuse('disk.exists', 'there is a disk web-1'));
    const error = await client(gateway)
      .call('diskCreate', createDisk)
      .catch((e) => e);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({
      status: 409,
      code: 'disk.exists',
      title: 'A disk has this name already',
      detail: 'there is a disk web-1',
      remedy: 'Choose another name.',
      exitCode: exitCodes.conflict,
    });
  });

  it('survives a refusal that M2 did not write', async () => {
    const gateway = await FakeGateway.start();
    gateway.on('GET /v1/whoami', (_seen, response) => response.writeHead(502).end('<html>') && undefined);
    await expect(client(gateway).call('whoami')).rejects.toMatchObject({ code: 'http.502', status: 502 });
  });

  it('refuses an answer that is not of the API', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/whoami', () => ({ hello: 'world' }));
    await expect(client(gateway).call('whoami')).rejects.toMatchObject({ code: 'cli.protocol' });
  });

  it('does not follow a redirect with the token', async () => {
    const other = (await FakeGateway.start()).on('GET /v1/whoami', () => samples.whoami);
    const gateway = await FakeGateway.start();
    const location = `${other.url}/v1/whoami`;
    gateway.on('GET /v1/whoami', (_seen, response) => response.writeHead(307, { location }).end() && undefined);
    await expect(client(gateway, { attempts: 1 }).call('whoami')).rejects.toThrow(CliError);
    expect(other.seen).toEqual([]);
  });

  it.each(['../secrets', 'a/b', 'a\nb', '${x}', 'A', ''])('never sends the name %j', async (disk) => {
    const gateway = await FakeGateway.start();
    const error = await client(gateway)
      .call('diskShow', { params: { project: 'lab', disk } })
      .catch((e) => e);
    expect(error).toMatchObject({ code: 'request.invalid', exitCode: exitCodes.usage });
    expect(error.detail).toContain('disk');
    expect(gateway.seen).toEqual([]);
  });
});

describe('a list', () => {
  it('is followed to its end', async () => {
    const gateway = await pages();
    const { items, next } = await client(gateway).list('projectList');
    expect(items.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(next).toBeUndefined();
    expect(gateway.seen.map(({ query }) => query.get('cursor'))).toEqual([null, 'after-b']);
  });

  it('stops at its limit, and says where it goes on', async () => {
    const gateway = await pages();
    const { items, next } = await client(gateway).list('projectList', {}, 2);
    expect(items).toHaveLength(2);
    expect(next).toBe('after-b');
    expect(gateway.seen.map(({ query }) => query.get('limit'))).toEqual(['2']);
  });
});

describe('a stream', () => {
  it('goes on after a lost connection where it was, through a gateway that restarts', async () => {
    const gateway = await FakeGateway.start();
    gateway.on(
      'GET /v1/events',
      events({ ...event(1), id: ids.disk }),
      refuse('service.unavailable', 'restarts'),
      events({ ...event(2), id: ids.node }),
    );
    const sequences: string[] = [];
    for await (const { sequence } of client(gateway).stream('eventList')) {
      sequences.push(sequence);
      if (sequences.length === 2) break;
    }
    expect(sequences).toEqual(['1', '2']);
    expect(gateway.seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, ids.disk, ids.disk]);
  });

  it('ends with the refusal when it is refused', async () => {
    const gateway = await FakeGateway.start();
    const line = `GET /v1/operations/${ids.operation}`;
    gateway.on(line, refuse('operation.not_found', 'none'));
    const stream = client(gateway).stream('operationShow', { params: { id: ids.operation } });
    await expect(stream.next()).rejects.toMatchObject({ code: 'operation.not_found', exitCode: exitCodes.notFound });
    expect(gateway.seen).toHaveLength(1);
  });

  it('that is not answered says so while it waits', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/events', () => new Promise(() => {}));
    const told = Promise.withResolvers<string>();
    const end = new AbortController();
    const stream = client(gateway, { notice: 20, onWait: told.resolve }).stream('eventList', {}, end.signal);
    const next = stream.next();
    expect(await told.promise).toBe(`${gateway.url}: no answer for 0.02 s; it is waited for`);
    end.abort();
    await expect(next).rejects.toThrow(/abort/);
  });

  it('gives up when the gateway stays away longer than its patience', async () => {
    const gateway = (await FakeGateway.start()).on('GET /v1/events', refuse('service.unavailable', 'gone'));
    const stream = client(gateway, { patience: 0 }).stream('eventList');
    await expect(stream.next()).rejects.toThrow(UnreachableError);
  });

  it('ends when it is told to, with the connection closed', async () => {
    const gateway = await FakeGateway.start();
    const closed = Promise.withResolvers<void>();
    gateway.on('GET /v1/events', (_seen, response) => {
      response.on('close', closed.resolve);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: ${JSON.stringify(event(1))}\n\n`);
    });
    const stop = new AbortController();
    const stream = client(gateway).stream('eventList', {}, stop.signal);
    await stream.next();
    stop.abort();
    await expect(stream.next()).rejects.toThrow('aborted');
    await closed.promise;
  });
});
