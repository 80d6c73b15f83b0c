import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeInventory } from '../inventory.js';
import { type Answer, type Ask, ask } from '../door.js';
import { askDeprovision, askProvision, ended, purgeDisk, type TestInstallation, succeeded } from '../installation.js';

const nobody = '01990000-0000-7000-8000-000000000000';
const provisions = '/v1/projects/demo/provisions';

const unknowns: { line: string; body?: object; code: string }[] = [
  { line: 'GET /v1/projects/none', code: 'project.not_found' },
  { line: `GET /v1/projects/${nobody}`, code: 'project.not_found' },
  { line: 'POST /v1/projects/none/provisions', body: { node: 'node-1', image: 'golden' }, code: 'project.not_found' },
  { line: `POST ${provisions}`, body: { node: 'none', image: 'golden' }, code: 'node.not_found' },
  { line: `POST ${provisions}`, body: { node: nobody, image: 'golden' }, code: 'node.not_found' },
  { line: `POST ${provisions}`, body: { node: 'node-1', image: 'none' }, code: 'image.not_found' },
  { line: `POST ${provisions}`, body: { node: 'node-1', image: nobody }, code: 'image.not_found' },
  { line: `POST ${provisions}`, body: { node: 'node-1', disk: 'none' }, code: 'disk.not_found' },
  { line: `POST ${provisions}`, body: { node: 'node-1', nic: 'eth9', image: 'golden' }, code: 'nic.not_found' },
  { line: `GET ${provisions}/${nobody}`, code: 'provision.not_found' },
  { line: `DELETE ${provisions}/${nobody}`, code: 'provision.not_found' },
  { line: 'POST /v1/projects/demo/disks', body: { name: 'd', image: 'none' }, code: 'image.not_found' },
  { line: 'GET /v1/projects/demo/disks/none', code: 'disk.not_found' },
  { line: 'DELETE /v1/projects/demo/disks/none', code: 'disk.not_found' },
  { line: 'POST /v1/projects/demo/disks', body: { name: 'd', disk: 'none' }, code: 'disk.not_found' },
  { line: 'PATCH /v1/projects/demo/disks/none', body: { name: 'd' }, code: 'disk.not_found' },
  { line: 'POST /v1/projects/demo/disks/none/restore', body: {}, code: 'disk.not_found' },
  { line: 'POST /v1/projects/demo/disks/none/flatten', code: 'disk.not_found' },
  { line: 'POST /v1/projects/demo/disks/none/rollback', body: { tag: 't' }, code: 'disk.not_found' },
  { line: 'POST /v1/projects/demo/disks/none/tags', body: { name: 't' }, code: 'disk.not_found' },
  { line: 'DELETE /v1/projects/demo/disks/none/tags/t', code: 'disk.not_found' },
  { line: 'GET /v1/projects/demo/disks/none/content', code: 'disk.not_found' },
  {
    line: 'POST /v1/projects/demo/images',
    body: { name: 'i', source: { kind: 'image', image: 'none' } },
    code: 'image.not_found',
  },
  {
    line: 'POST /v1/projects/demo/images',
    body: { name: 'i', source: { kind: 'disk', disk: 'none' } },
    code: 'disk.not_found',
  },
  { line: 'PATCH /v1/projects/demo/images/none', body: { name: 'i' }, code: 'image.not_found' },
  { line: 'POST /v1/projects/demo/images/none/export', body: { volume: 'vms/i' }, code: 'image.not_found' },
  { line: 'GET /v1/projects/demo/images/none/tree', code: 'image.not_found' },
  { line: 'GET /v1/projects/demo/images/none/content', code: 'image.not_found' },
  { line: 'GET /v1/projects/none/quota', code: 'project.not_found' },
  { line: 'GET /v1/projects/demo/images/none', code: 'image.not_found' },
  { line: 'DELETE /v1/projects/demo/images/none', code: 'image.not_found' },
  { line: 'GET /v1/nodes/none', code: 'node.not_found' },
  { line: 'GET /v1/nodes/none/power', code: 'node.not_found' },
  { line: 'DELETE /v1/nodes/none', code: 'node.not_found' },
  { line: `GET /v1/operations/${nobody}`, code: 'operation.not_found' },
  { line: `POST /v1/operations/${nobody}/cancel`, code: 'operation.not_found' },
  { line: `POST /v1/operations/${nobody}/resume`, code: 'operation.not_found' },
  { line: `DELETE /v1/tokens/${nobody}`, code: 'token.not_found' },
  {
    line: 'POST /v1/tokens',
    body: { name: 't', role: 'member', project: 'none' },
    code: 'project.not_found',
  },
];

const huge = JSON.stringify({ name: 'a'.repeat(2 * 1024 * 1024) });

/** Requests that are malformed, or not of this API. */
const nonsense: { name: string; line: string; more?: Ask; status: number; code: string }[] = [
  { name: 'an unknown path', line: 'GET /v1/none', status: 404, code: 'request.not_found' },
  { name: 'the root', line: 'GET /', status: 404, code: 'request.not_found' },
  { name: 'a path with a dot file', line: 'GET /.env', status: 404, code: 'request.not_found' },
  { name: 'a method of another path', line: 'PUT /v1/projects', status: 405, code: 'request.method_not_allowed' },
  { name: 'an unusual method', line: 'PATCH /v1/nodes/node-1', status: 405, code: 'request.method_not_allowed' },
  {
    name: 'a body that is text',
    line: 'POST /v1/projects',
    more: { raw: 'name=x', headers: { 'content-type': 'text/plain' } },
    status: 415,
    code: 'request.unsupported_media_type',
  },
  {
    name: 'a form',
    line: 'POST /v1/projects',
    more: { raw: 'name=x', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    status: 415,
    code: 'request.unsupported_media_type',
  },
  { name: 'half a body', line: 'POST /v1/projects', more: { raw: '{"name":' }, status: 400, code: 'request.invalid' },
  { name: 'no body', line: 'POST /v1/projects', status: 400, code: 'request.invalid' },
  { name: 'an empty body', line: 'POST /v1/projects', more: { raw: '' }, status: 400, code: 'request.invalid' },
  { name: 'a list for a body', line: 'POST /v1/projects', more: { body: [] }, status: 400, code: 'request.invalid' },
  { name: 'null for a body', line: 'POST /v1/projects', more: { raw: 'null' }, status: 400, code: 'request.invalid' },
  {
    name: 'a prototype',
    line: 'POST /v1/projects',
    more: { raw: '{"__proto__":{"name":"x"}}' },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'a body nested ten thousand times',
    line: 'POST /v1/projects',
    more: { raw: '['.repeat(10_000) + ']'.repeat(10_000) },
    status: 400,
    code: 'request.invalid',
  },
  { name: 'a huge body', line: 'POST /v1/projects', more: { raw: huge }, status: 413, code: 'request.too_large' },
  { name: 'an identifier that is none', line: 'GET /v1/operations/1', status: 400, code: 'request.invalid' },
  {
    name: 'an injection for an identifier',
    line: "GET /v1/operations/1'%20OR%20'1'='1",
    status: 400,
    code: 'request.invalid',
  },
  { name: 'a cursor of nobody', line: 'GET /v1/operations?cursor=x', status: 400, code: 'request.invalid' },
  { name: 'an injection for a cursor', line: "GET /v1/projects?cursor='%3B--", status: 400, code: 'request.invalid' },
  { name: 'a NUL in a cursor', line: 'GET /v1/nodes?cursor=%00', status: 400, code: 'request.invalid' },
  { name: 'a page without end', line: 'GET /v1/projects?limit=1000000', status: 400, code: 'request.invalid' },
  { name: 'a broken escape', line: 'GET /v1/projects/%E0%A4%A', status: 400, code: 'request.invalid' },
  {
    name: 'image and disk',
    line: `POST ${provisions}`,
    more: { body: { node: 'node-1', image: 'golden', disk: 'd' } },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'neither image nor disk',
    line: `POST ${provisions}`,
    more: { body: { node: 'node-1' } },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'another scheme',
    line: 'POST /v1/projects/demo/images',
    more: { body: { name: 'i', source: { kind: 'url', url: 'file:///etc/passwd' } } },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'an option for a BMC address',
    line: 'PUT /v1/nodes/node-1/bmc',
    more: { body: { address: '-oProxyCommand=x', user: 'a', password: 'b' } },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'a disk of less than nothing',
    line: 'POST /v1/projects/demo/disks',
    more: { body: { name: 'd', image: 'golden', sizeBytes: -1 } },
    status: 400,
    code: 'request.invalid',
  },
  {
    name: 'a key with a blank',
    line: `POST ${provisions}`,
    more: { body: { node: 'node-1', image: 'golden' }, headers: { 'idempotency-key': 'a b' } },
    status: 400,
    code: 'request.invalid',
  },
];

export function describeBadRequests(installation: () => TestInstallation): void {
  const send = (line: string, more: Ask = {}) => {
    const [method, ...path] = line.split(' ') as [string, ...string[]];
    return ask(installation(), method, path.join(' '), more);
  };
  const expectProblem = (answer: Answer, code: string) => {
    expect(answer).toMatchObject({ code, type: expect.stringContaining('application/problem+json') });
    expect(answer.json).toMatchObject({
      type: `urn:m2:error:${code}`,
      status: answer.status,
      title: expect.stringMatching(/./),
      detail: expect.stringMatching(/./),
      remedy: expect.stringMatching(/./),
    });
  };

  describe('what is not there', () => {
    it.each(unknowns)('$line $body: $code', async ({ line, body, code }) => {
      const before = await takeInventory(installation());
      const answer = await send(line, { body });
      expect(answer.status).toBe(404);
      expectProblem(answer, code);
      expect(await takeInventory(installation())).toEqual(before);
    });
  });

  describe('nonsense', () => {
    it.each(nonsense)('$name: $status $code', async ({ line, more, status, code }) => {
      const before = await takeInventory(installation());
      const answer = await send(line, more);
      expect(answer.status).toBe(status);
      expectProblem(answer, code);
      expect(answer.allow ?? '').toMatch(status === 405 ? /^[A-Z]+(, [A-Z]+)*$/ : /^$/);
      expect(await takeInventory(installation())).toEqual(before);
    });

    it('does not take the gateway down', async () => {
      expect((await send('GET /healthz', { token: null })).status).toBe(200);
    });
  });

  describe('an Idempotency-Key', () => {
    const headers = { 'idempotency-key': 'key-1' };
    const body = { node: 'node-1', image: 'golden', diskName: 'twice', waitFor: 'ready' };
    const post = (given: object, key = headers) => send(`POST ${provisions}`, { body: given, headers: key });
    let id: string;

    beforeAll(async () => {
      // The second comes while the first is being accepted.
      const answers = await Promise.all([post(body), post(body), post(body)]);
      expect(answers.map(({ status }) => status)).toEqual([202, 202, 202]);
      const ids = new Set(answers.map(({ json }) => (json as { id: string }).id));
      expect(ids.size).toBe(1);
      [id] = [...ids] as [string];
      await succeeded(installation(), answers[0]!.json as never);
    });
    afterAll(async () => {
      const operation = await installation().client.call('operationShow', { params: { id } });
      await succeeded(installation(), await askDeprovision(installation(), operation.about['provision']!));
    });

    it('with the same request is the same operation, also when it has ended', async () => {
      const before = await takeInventory(installation());
      expect(await post(body)).toMatchObject({ status: 202, json: { id, state: 'succeeded' } });
      expect(await takeInventory(installation())).toEqual(before);
    });

    it.each([{ ...body, diskName: 'other' }, { ...body, node: 'node-2' }, {}])('with %j: 409', async (other) => {
      const before = await takeInventory(installation());
      const answer = await post(other);
      expect([409, 400]).toContain(answer.status);
      expect(['idempotency.conflict', 'request.invalid']).toContain(answer.code);
      expect(await takeInventory(installation())).toEqual(before);
    });

    it('of another request, for another path: 409', async () => {
      const answer = await send('POST /v1/projects/demo/disks', { body: { name: 'd', image: 'golden' }, headers });
      expect(answer).toMatchObject({ status: 409, code: 'idempotency.conflict' });
    });
  });

  describe('what is taken', () => {
    it('a node, a disk and a name', async () => {
      const operation = await succeeded(installation(), await askProvision(installation()));
      const { provision, disk } = operation.about as Record<'provision' | 'disk', string>;
      const [{ name } = { name: '' }] = (await installation().client.list('diskList', { params: { project: 'demo' } }))
        .items;
      const before = await takeInventory(installation());
      const taken = async (line: string, given?: object) => {
        const { status, code } = await send(line, { body: given });
        return `${status} ${code}`;
      };
      expect([
        await taken(`POST ${provisions}`, { node: 'node-1', image: 'golden' }),
        await taken(`POST ${provisions}`, { node: 'node-2', disk }),
        await taken(`POST ${provisions}`, { node: 'node-2', image: 'golden', diskName: name }),
        await taken(`DELETE /v1/projects/demo/disks/${disk}`),
        await taken('DELETE /v1/nodes/node-1'),
        await taken('DELETE /v1/projects/demo'),
        await taken('POST /v1/projects', { name: 'demo' }),
      ]).toEqual([
        '409 node.busy',
        '409 disk.in_use',
        '409 disk.exists',
        '409 disk.in_use',
        '409 node.busy',
        '409 project.not_empty',
        '409 project.exists',
      ]);
      expect(await takeInventory(installation())).toEqual(before);
      await succeeded(installation(), await askDeprovision(installation(), provision, 'delete'));
    });

    it('an image that has disks, and a size below it', async () => {
      const { client } = installation();
      const project = 'demo';
      const create = (name: string, sizeBytes?: number) =>
        client.call('diskCreate', { params: { project }, body: { name, image: 'golden', sizeBytes } });
      await expect(create('small', 512)).rejects.toMatchObject({ code: 'disk.too_small' });
      const disk = await succeeded(installation(), await create('one'));
      const image = await client.call('imageDelete', { params: { project, image: 'golden' } });
      expect(await ended(installation(), image)).toMatchObject({ state: 'failed', error: { code: 'image.in_use' } });
      expect(await client.call('imageShow', { params: { project, image: 'golden' } })).toMatchObject({
        state: 'ready',
      });
      await expect(create('one')).rejects.toMatchObject({ code: 'disk.exists' });
      await succeeded(installation(), await purgeDisk(installation(), disk.about['disk']!));
    });
  });
}
