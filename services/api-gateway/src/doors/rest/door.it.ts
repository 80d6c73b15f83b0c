import {
  allRoutes,
  fieldsBeside,
  imageImport,
  imageShow,
  M2Error,
  nodeRegister,
  operationStarted,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let project: { id: string; name: string };

beforeAll(async () => {
  gateway = await openGateway();
  project = await gateway.project('lab');
});
afterAll(() => gateway?.close());

const problem = (code: string, status: number) => ({ code, status, type: `urn:m2:error:${code}` });
const importing = (name: string) => ({ name, source: { kind: 'file', path: '/images/a.qcow2' } });
const images = '/v1/projects/lab/images';

describe('a request that cannot be served', () => {
  it.each([
    ['is no JSON', 'POST', '/v1/projects', { body: '{"name": ' }, 400, 'request.invalid'],
    [
      'is JSON that would change objects',
      'POST',
      '/v1/projects',
      { body: '{"name":"x","__proto__":{"a":1}}' },
      400,
      'request.invalid',
    ],
    [
      'is text',
      'POST',
      '/v1/projects',
      { body: 'x', headers: { 'content-type': 'text/plain' } },
      415,
      'request.unsupported_media_type',
    ],
    [
      'is a form, which any web page can send',
      'POST',
      '/v1/projects',
      { body: 'name=x', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      415,
      'request.unsupported_media_type',
    ],
    ['is too large', 'POST', '/v1/projects', { body: { name: 'x'.repeat(1_100_000) } }, 413, 'request.too_large'],
    ['lacks what it needs', 'POST', '/v1/projects', { body: {} }, 400, 'request.invalid'],
    ['has no body', 'POST', '/v1/projects', {}, 400, 'request.invalid'],
    ['asks for too much', 'GET', '/v1/projects?limit=501', {}, 400, 'request.invalid'],
    ['asks for nothing', 'GET', '/v1/projects?limit=0', {}, 400, 'request.invalid'],
    ['has a cursor of no list', 'GET', '/v1/operations?cursor=x', {}, 400, 'request.invalid'],
    ['has a cursor that no database takes', 'GET', '/v1/projects?cursor=%00', {}, 400, 'request.invalid'],
    ['filters by what cannot be', 'GET', '/v1/events?type=%25%00', {}, 400, 'request.invalid'],
    ['names what no identifier is', 'GET', '/v1/operations/7', {}, 400, 'request.invalid'],
    ['has a path with a NUL', 'GET', '/v1/projects/a%00b', {}, 404, 'project.not_found'],
    ['has a path with half an escape', 'GET', '/v1/projects/%zz', {}, 400, 'request.invalid'],
    ['has a name longer than any', 'GET', `/v1/projects/${'a'.repeat(200)}`, {}, 400, 'request.invalid'],
    ['names a path that walks', 'GET', '/v1/projects/..%2f..%2fetc', {}, 404, 'project.not_found'],
    ['misspells a field', 'POST', '/v1/projects', { body: { name: 'x', Name: 'y' } }, 400, 'request.invalid'],
    ['has a parameter that is not known', 'GET', '/v1/operations?status=failed', {}, 400, 'request.invalid'],
    ['misspells a parameter', 'DELETE', '/v1/projects/lab/disks/web-1?Purge=true', {}, 400, 'request.invalid'],
    ['has a parameter where the body is', 'POST', '/v1/projects?name=x', { body: {} }, 400, 'request.invalid'],
    ['says a parameter twice', 'GET', '/v1/projects?limit=1&limit=2', {}, 400, 'request.invalid'],
    ['has a parameter without a value', 'DELETE', '/v1/projects/lab/disks/web-1?purge', {}, 400, 'request.invalid'],
    [
      'names a thing in the path and in the body',
      'PATCH',
      `${images}/a`,
      { body: { image: 'b' } },
      400,
      'request.invalid',
    ],
    ['has a path that is not there', 'GET', '/v1/nothing', {}, 404, 'request.not_found'],
    ['has no path', 'GET', '/', {}, 404, 'request.not_found'],
    [
      'has a source with a NUL',
      'POST',
      images,
      { body: { name: 'a', source: { kind: 'file', path: '/a\0b' } } },
      400,
      'request.invalid',
    ],
  ] as const)('because it %s says so', async (_what, method, path, sent, status, code) => {
    const answer = await gateway.ask(method, path, sent);
    expect([answer.status, answer.body]).toMatchObject([status, problem(code, status)]);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect((answer.body as { remedy: string }).remedy).not.toBe('');
  });

  it('names every field that is wrong', async () => {
    const { body } = await gateway.ask('POST', '/v1/nodes', { body: { name: 'N', nics: [], bmc: {} } });
    const { about } = body as { about: { issues: { at: string }[] } };
    expect(about.issues.map(({ at }) => at)).toEqual(expect.arrayContaining(['name', 'nics', 'bmc.address']));
  });

  it('is told so in words for people', async () => {
    for (const [method, path, body, detail] of [
      ['POST', '/v1/projects/lab/provisions', { node: 'n' }, 'give either image or disk'],
      ['POST', '/v1/projects/lab/provisions', { node: 7, image: 'i' }, 'node: must be a name or an identifier'],
      [
        'POST',
        '/v1/projects/lab/disks',
        { name: 'd', image: 'i', sizebytes: 1 },
        'sizebytes: is not known; sizeBytes is',
      ],
      [
        'GET',
        '/v1/operations?status=failed',
        undefined,
        'status: is not known; known are cursor, limit, project, kind, state',
      ],
      ['DELETE', '/v1/projects/lab/disks/d?purge=maybe', undefined, 'purge: must be true or false'],
    ] as const) {
      const answer = await gateway.ask(method, path, { body });
      expect([path, answer.status, (answer.body as { detail: string }).detail]).toEqual([path, 400, detail]);
    }
  });

  it.each([
    ['PUT', '/v1/projects', 'GET, POST'],
    ['DELETE', '/v1/whoami', 'GET'],
    ['POST', '/v1/projects/lab/', 'GET, DELETE'],
  ])('because %s is not for %s says what is', async (method, path, allowed) => {
    const answer = await gateway.ask(method, path);
    expect([answer.status, answer.body]).toMatchObject([405, problem('request.method_not_allowed', 405)]);
    expect(answer.headers.get('allow')!.split(', ').toSorted()).toEqual(allowed.split(', ').toSorted());
  });

  it('carries a trace id: that of who asked, where there is one', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    expect((await gateway.ask('GET', '/v1/projects/nowhere', { headers })).body).toMatchObject({ traceId });
    expect((await gateway.ask('GET', '/v1/projects/nowhere')).body).toMatchObject({
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
    });
  });

  it('because something broke inside tells nothing of the inside', async () => {
    gateway.standIns.fail(imageShow, new M2Error('internal', 'connect ECONNREFUSED 10.0.0.7, password hunter2'));
    const { status, body, text } = await gateway.ask('GET', `${images}/ubuntu`);
    expect([status, body]).toMatchObject([500, problem('internal', 500)]);
    expect(text).not.toMatch(/hunter2|10\.0\.0\.7/);
  });

  it('because a service refused it says what the service said', async () => {
    const { status, body } = await gateway.ask('GET', `${images}/ubuntu`);
    expect([status, body]).toMatchObject([404, { ...problem('image.not_found', 404), detail: 'There is no ubuntu' }]);
  });
});

describe('an accepted operation', () => {
  it('is answered with the place to watch it', async () => {
    const answer = await gateway.ask('POST', images, { body: importing('first') });
    const { id, state, kind, cancellable, steps } = answer.body as OperationBody;
    expect(answer.status).toBe(202);
    expect(answer.headers.get('location')).toBe(`/v1/operations/${id}`);
    expect({ state, kind, cancellable }).toEqual({ state: 'running', kind: 'image.import', cancellable: true });
    expect(steps.map(({ name }) => name)).toEqual(['import-image']);
    const seen = await gateway.ask('GET', answer.headers.get('location')!);
    expect((seen.body as OperationBody).id).toBe(id);
    expect(seen.headers.get('location')).toBeNull();
    expect(await gateway.ended({ id })).toMatchObject({ state: 'succeeded', error: null, cancellable: false });
  });

  it('cannot be cancelled or resumed when it has ended', async () => {
    const { body } = await gateway.ask('POST', images, { body: importing('second') });
    const { id } = await gateway.ended(body as OperationBody);
    for (const [verb, code] of [
      ['cancel', 'operation.not_cancellable'],
      ['resume', 'operation.not_resumable'],
    ] as const) {
      const answer = await gateway.ask('POST', `/v1/operations/${id}/${verb}`);
      expect([answer.status, answer.body]).toMatchObject([409, problem(code, 409)]);
    }
    expect((await gateway.ask('POST', `/v1/operations/${uuidv7()}/cancel`)).status).toBe(404);
  });
});

describe('an Idempotency-Key', () => {
  const post = (key: string, body: unknown, token?: string) =>
    gateway.ask('POST', images, { body, headers: { 'idempotency-key': key }, ...(token && { token }) });
  const begun = async (id: string) =>
    (
      await gateway.kit.database.query<{ n: number }>(`SELECT count(*)::int AS n FROM operations WHERE id = $1`, [id])
    )[0]!.n;

  it('makes the same request the same operation, also when it has ended', async () => {
    const key = uuidv7();
    const first = (await post(key, importing('once'))).body as OperationBody;
    await gateway.ended(first);
    const again = await post(key, importing('once'));
    expect([again.status, (again.body as OperationBody).id]).toEqual([202, first.id]);
    expect(again.headers.get('location')).toBe(`/v1/operations/${first.id}`);
  });

  it('makes one operation of requests that come at the same time', async () => {
    const key = uuidv7();
    const answers = await Promise.all(Array.from({ length: 8 }, () => post(key, importing('together'))));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 202));
    const ids = new Set(answers.map(({ body }) => (body as OperationBody).id));
    expect(ids.size).toBe(1);
    expect(await begun([...ids][0]!)).toBe(1);
    await gateway.ended({ id: [...ids][0]! });
  });

  it('of another request is refused, and says whose it is', async () => {
    const key = uuidv7();
    const first = (await post(key, importing('mine'))).body as OperationBody;
    const answer = await post(key, importing('other'));
    expect([answer.status, answer.body]).toMatchObject([
      409,
      { code: 'idempotency.conflict', about: { operation: first.id } },
    ]);
    await gateway.ended(first);
  });

  it('of another token is another key', async () => {
    const key = uuidv7();
    const token = await gateway.token('member', 'lab');
    const [one, two] = [await post(key, importing('one')), await post(key, importing('two'), token)];
    expect([one.status, two.status]).toEqual([202, 202]);
    expect((one.body as OperationBody).id).not.toBe((two.body as OperationBody).id);
  });

  it('is 1 to 255 printable characters', async () => {
    for (const key of ['', 'a b', 'x'.repeat(256)])
      expect([key, (await post(key, importing('bad'))).status]).toEqual([key, 400]);
  });
});

const isOf = (request: unknown, name: string) => (request as { name?: string }).name === name;

describe('an Idempotency-Key of a change', () => {
  const post = (path: string, body: unknown, key: string) =>
    gateway.ask('POST', path, { body, headers: { 'idempotency-key': key } });
  const node = (name: string) => ({
    name,
    nics: [{ label: 'eth0', mac: '52:54:00:12:34:56' }],
    bmc: { address: '192.0.2.7', user: 'admin', password: 'secret' },
  });

  it('makes a project, a token and a node once, and answers alike', async () => {
    for (const [path, body] of [
      ['/v1/projects', { name: 'keyed' }],
      ['/v1/tokens', { name: 'keyed', role: 'operator' }],
      ['/v1/nodes', node('keyed')],
      ['/v1/storage/repair', undefined],
    ] as const) {
      const key = uuidv7();
      const answers = await Promise.all(Array.from({ length: 4 }, () => post(path, body, key)));
      answers.push(await post(path, body, key));
      expect([path, new Set(answers.map(({ status, text }) => `${status} ${text}`)).size]).toEqual([path, 1]);
      expect(answers[0]!.status).toBeLessThan(300);
    }
    const made = gateway.standIns.asked.filter(({ request }) => (request as { name?: string }).name === 'keyed');
    expect(made).toHaveLength(1);
  });

  it('keeps the value of a token from whoever reads the database', async () => {
    const { body } = await post('/v1/tokens', { name: 'sealed', role: 'operator' }, uuidv7());
    const { value } = body as { value: string };
    const rows = await gateway.kit.database.query('SELECT encode(reply, $1) AS reply FROM idempotency_keys', [
      'escape',
    ]);
    expect(JSON.stringify(rows)).not.toContain(value);
    expect((await gateway.ask('GET', '/v1/whoami', { token: value })).status).toBe(200);
  });

  it('of another change, or of an operation, is refused', async () => {
    const key = uuidv7();
    expect((await post('/v1/projects', { name: 'first' }, key)).status).toBe(201);
    for (const [path, body] of [
      ['/v1/projects', { name: 'second' }],
      ['/v1/nodes', node('second')],
      [images, importing('second')],
    ] as const) {
      const answer = await post(path, body, key);
      expect([path, answer.status, answer.body]).toMatchObject([path, 409, { code: 'idempotency.conflict' }]);
    }
  });

  it('is free again when the request was refused', async () => {
    const key = uuidv7();
    expect((await post('/v1/projects', { name: 'lab' }, key)).status).toBe(409);
    expect((await post('/v1/projects', { name: 'free-again' }, key)).status).toBe(201);
  });

  it('goes on where a gateway that died left it, and makes nothing twice', async () => {
    const key = uuidv7();
    const first = await post('/v1/projects', { name: 'survivor' }, key);
    // As if it had died after the project was made, and before it could say so.
    await gateway.kit.database.query(
      `UPDATE idempotency_keys SET ended_at = NULL, reply = NULL, lease_until = now() - interval '1 second' WHERE key = $1`,
      [key],
    );
    expect((await post('/v1/projects', { name: 'survivor' }, key)).body).toEqual(first.body);
  });

  it('that another copy took over is not given back by the first', async () => {
    const key = uuidv7();
    const release = gateway.standIns.hold(nodeRegister);
    const first = post('/v1/nodes', node('slow'), key);
    await until('the first is at work', () => gateway.standIns.asked.some(({ request }) => isOf(request, 'slow')));
    await gateway.kit.database.query(
      `UPDATE idempotency_keys SET lease_until = now() - interval '1 second' WHERE key = $1`,
      [key],
    );
    const second = post('/v1/nodes', node('slow'), key);
    await until(
      'the second is at work',
      () => gateway.standIns.asked.filter(({ request }) => isOf(request, 'slow')).length === 2,
    );
    // The first one is refused, and the second one is not.
    gateway.standIns.fail(nodeRegister, new M2Error('node.exists', 'There is one'));
    release();
    const answers = await Promise.all([first, second]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    const ids = gateway.standIns.asked.filter(({ request }) => isOf(request, 'slow')).map(({ effect }) => effect);
    expect(new Set(ids).size).toBe(1);
    expect((await post('/v1/nodes', node('slow'), key)).text).toBe(answers[0]!.text);
  });

  it('of an operation from before the upgrade is that operation', async () => {
    const first = (await post(images, importing('older'), uuidv7())).body as OperationBody;
    await gateway.ended(first);
    await gateway.kit.database.query(
      `UPDATE idempotency_keys SET request_hash = '', use_case = 'image.import' WHERE id = $1`,
      [first.id],
    );
    const [row] = await gateway.kit.database.query<{ key: string }>('SELECT key FROM idempotency_keys WHERE id = $1', [
      first.id,
    ]);
    expect((await post(images, importing('older'), row!.key)).body).toMatchObject({ id: first.id });
  });

  it('of a decision whose gateway died is that decision, whatever came of it since', async () => {
    const died = (key: string) =>
      gateway.kit.database.query(
        `UPDATE idempotency_keys SET ended_at = NULL, reply = NULL, lease_until = now() - interval '1 second' WHERE key = $1`,
        [key],
      );
    const release = gateway.standIns.hold(imageImport);
    const operation = (await post(images, importing('decided'), uuidv7())).body as OperationBody;
    const cancel = (key: string) => post(`/v1/operations/${operation.id}/cancel`, {}, key);
    const key = uuidv7();
    expect((await cancel(key)).status).toBe(202);
    release();
    await gateway.ended(operation);
    await died(key);
    const again = await cancel(key);
    expect([again.status, again.body]).toMatchObject([202, { id: operation.id, state: 'cancelled' }]);
    // Another one comes too late.
    expect((await cancel(uuidv7())).body).toMatchObject({ code: 'operation.not_cancellable' });
  });

  it('of an operation whose gateway died is that operation', async () => {
    const key = uuidv7();
    const first = (await post(images, importing('outlived'), key)).body as OperationBody;
    await gateway.ended(first);
    await gateway.kit.database.query(
      `UPDATE idempotency_keys SET ended_at = NULL, lease_until = now() - interval '1 second' WHERE key = $1`,
      [key],
    );
    const again = await post(images, importing('outlived'), key);
    expect([again.status, again.body]).toMatchObject([202, { id: first.id, state: 'succeeded' }]);
  });
});

describe('what is changed at once', () => {
  it('is on record with who changed it, through which door', async () => {
    const token = await gateway.token('operator');
    const { body } = await gateway.ask('POST', '/v1/projects', { body: { name: 'recorded' }, token });
    const [row] = await gateway.kit.database.query<{ data: object; project: string | null }>(
      `SELECT data, project FROM m2_outbox WHERE type = 'gateway.change.accepted' AND data->>'id' = $1`,
      [(body as { id: string }).id],
    );
    expect(row).toMatchObject({
      data: { useCase: 'projectCreate', door: 'rest', by: expect.stringMatching(/^t-/) as string },
    });
  });

  it('is not on record when it was refused at the door', async () => {
    const before = await gateway.kit.database.query(`SELECT FROM m2_outbox WHERE type = 'gateway.change.accepted'`);
    await gateway.ask('POST', '/v1/projects', { body: { name: 'No Name' } });
    await gateway.ask('POST', '/v1/projects', { body: { name: 'x' }, token: await gateway.token('auditor') });
    const after = await gateway.kit.database.query(`SELECT FROM m2_outbox WHERE type = 'gateway.change.accepted'`);
    // The token that was made in between.
    expect(after.length).toBe(before.length + 1);
  });
});

describe('a list', () => {
  const names = (body: unknown) => (body as { items: { name: string }[] }).items.map(({ name }) => name);
  const pages = async (path: string) => {
    const found: { id: string; name: string }[][] = [];
    for (let cursor = ''; ;) {
      const { body } = await gateway.ask('GET', `${path}limit=2${cursor}`);
      const page = body as { items: { id: string; name: string }[]; next?: string };
      found.push(page.items);
      if (page.next === undefined) return found;
      cursor = `&cursor=${encodeURIComponent(page.next)}`;
    }
  };

  it('comes in pages, each thing once, to the end', async () => {
    for (const name of ['page-3', 'page-1', 'page-4', 'page-2']) await gateway.project(name);
    const found = await pages('/v1/projects?');
    expect(found.slice(0, -1).every((page) => page.length === 2)).toBe(true);
    const all = found.flat().map(({ name }) => name);
    expect(all).toEqual(all.toSorted());
    expect(all).toEqual(names((await gateway.ask('GET', '/v1/projects')).body));
  });

  it('whose things have no name comes with the newest first', async () => {
    const ids = (await pages('/v1/operations?')).flat().map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(3);
    expect(ids).toEqual(ids.toSorted().toReversed());
    expect(new Set(ids).size).toBe(ids.length);
    const { body } = await gateway.ask('GET', '/v1/operations?kind=disk.create');
    expect((body as { items: unknown[] }).items).toEqual([]);
  });

  it('of a service is asked for as it was asked for here', async () => {
    for (const name of ['aa', 'bb', 'cc']) gateway.standIns.addImage(name, project.id);
    const first = await gateway.ask('GET', `${images}?limit=2`);
    expect(first.body).toMatchObject({ items: [{ name: 'aa' }, { name: 'bb' }], next: 'bb' });
    expect(names((await gateway.ask('GET', `${images}?limit=2&cursor=bb`)).body)[0]).toBe('cc');
  });
});

describe('a project', () => {
  it('is made once, and found by name and by identifier', async () => {
    const made = await gateway.ask('POST', '/v1/projects', { body: { name: 'new' } });
    expect(made.status).toBe(201);
    const again = await gateway.ask('POST', '/v1/projects', { body: { name: 'new' } });
    expect([again.status, again.body]).toMatchObject([409, problem('project.exists', 409)]);
    for (const which of ['new', (made.body as { id: string }).id])
      expect((await gateway.ask('GET', `/v1/projects/${which}`)).body).toEqual(made.body);
  });

  it('is deleted when nothing is in it, and its tokens with it', async () => {
    const { id } = await gateway.project('full');
    const token = await gateway.token('member', 'full');
    const image = gateway.standIns.addImage('last', id);
    const refused = await gateway.ask('DELETE', '/v1/projects/full');
    expect([refused.status, refused.body]).toMatchObject([409, problem('project.not_empty', 409)]);
    gateway.standIns.images.delete(image.id);
    expect((await gateway.ask('DELETE', '/v1/projects/full')).status).toBe(204);
    expect((await gateway.ask('GET', '/v1/projects/full')).status).toBe(404);
    expect((await gateway.ask('GET', '/v1/whoami', { token })).status).toBe(401);
  });

  it('in which an operation runs is not deleted', async () => {
    const { id } = await gateway.project('busy');
    const release = gateway.standIns.hold(imageImport);
    const begun = await gateway.ask('POST', '/v1/projects/busy/images', { body: importing('slow') });
    const refused = await gateway.ask('DELETE', `/v1/projects/${id}`);
    expect([refused.status, refused.body]).toMatchObject([409, problem('project.not_empty', 409)]);
    release();
    await gateway.ended(begun.body as OperationBody);
  });

  it('tells of what is done in it, with who did it', async () => {
    const rows = await gateway.kit.database.query<{ data: { by: string } }>(
      'SELECT data FROM m2_outbox WHERE type = $1',
      [operationStarted.type],
    );
    expect(rows.length).toBeGreaterThan(0);
    expect(rows[0]!.data.by).toBe('bootstrap');
  });
});

describe('the example of a body', () => {
  it.each(
    allRoutes
      .filter((route) => route.method !== 'GET' && route.useCase.example !== undefined)
      .map((route) => [route.name, route] as const),
  )('%s is taken: what is refused is not its form', async (_name, route) => {
    const example = route.useCase.example as Record<string, unknown>;
    const path = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
      name === 'project' ? 'lab' : String(example[name]),
    );
    const body = Object.fromEntries(
      fieldsBeside(route)
        .filter((field) => field in example)
        .map((field) => [field, example[field]]),
    );
    const answer = await gateway.ask(route.method, path, { body });
    expect([answer.status, (answer.body as { code?: string }).code]).not.toEqual([400, 'request.invalid']);
    expect(answer.status).toBeLessThan(500);
  });
});
