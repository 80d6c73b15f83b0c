import { allRoutes, type OperationKind } from '@m2/contracts';
import { askedOften, type Scan, watchPlans } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bigProject, fillGateway } from './testing/fill.js';
import { openGateway, type OperationBody, type TestGateway } from './testing/gateway.js';

/** Rows of one table that one statement may look at: a page and its steps, among tens of thousands. */
const enough = 1_000;

let gateway: TestGateway;
let plans: Awaited<ReturnType<typeof watchPlans>>;

beforeAll(async () => {
  gateway = await openGateway();
  await fillGateway(gateway.kit.database, 0.1);
  plans = await watchPlans(gateway.kit.database);
});
afterAll(() => gateway?.close());

const tooMany = (): Scan[] => plans.scans().filter(({ rows }) => rows > enough);
const get = async (path: string) => {
  const { status, body } = await gateway.ask('GET', path);
  expect({ path, status }).toEqual({ path, status: 200 });
  return body as { items: unknown[] };
};

describe('with 30,000 operations, no statement looks at more than it needs', () => {
  it('of any route, whatever it is asked about', async () => {
    for (const { method, path } of allRoutes.filter(({ path }) => path !== '/v1/projects/{project}')) {
      const asked = path
        .replace('{project}', 'filled-1')
        .replaceAll('{id}', uuidv7())
        .replaceAll(/\{\w+\}/g, 'nothing');
      await gateway.ask(method, asked, { body: method === 'GET' || method === 'HEAD' ? undefined : {} });
    }
    expect(plans.scans().length).toBeGreaterThan(50);
    expect(tooMany()).toEqual([]);
  });

  it('of a list, whatever it is filtered by', async () => {
    const kinds: OperationKind[] = ['provision', 'image.export', 'image.import'];
    const states = ['succeeded', 'failed', 'needs_attention', 'running', 'undoing'];
    for (const of of ['', 'project=filled-1', 'project=filled-3'])
      for (const filter of ['', ...kinds.map((kind) => `kind=${kind}`), ...states.map((state) => `state=${state}`)])
        await askedOften(() => get(`/v1/operations?limit=20&${of}&${filter}`));
    expect((await get('/v1/operations?state=needs_attention')).items).toHaveLength(4);
    expect((await get('/v1/operations?kind=image.export&project=filled-1')).items).toHaveLength(9);
    for (const project of ['filled-1', 'filled-3'])
      for (const all of ['true', 'false'])
        await askedOften(() => get(`/v1/projects/${project}/provisions?all=${all}&limit=20`));
    for (const path of ['/v1/projects', '/v1/tokens', '/v1/events', '/v1/events?type=boot.config.refused'])
      await askedOften(() => get(path));
    expect(tooMany()).toEqual([]);
  });

  it('of a provision and its end, of a project and its end, and of what goes on by itself', async () => {
    gateway.standIns.addNode('node-1');
    gateway.standIns.addImage('debian', bigProject);
    const send = async (method: string, path: string, body?: object) => {
      const answer = await gateway.ask(method, path, { body, headers: { 'idempotency-key': uuidv7() } });
      expect(answer).toMatchObject({ status: 202 });
      const { state } = await gateway.ended(answer.body as OperationBody);
      expect({ path, state }).toEqual({ path, state: 'succeeded' });
      return answer.body as OperationBody;
    };
    const { about } = await send('POST', '/v1/projects/filled-1/provisions', {
      node: 'node-1',
      image: 'debian',
      waitFor: 'ready',
    });
    await send('DELETE', `/v1/projects/filled-1/provisions/${about['provision']}`, {});
    const refused = await gateway.ask('DELETE', '/v1/projects/filled-1');
    expect(refused.status).toBe(409);
    await gateway.project('empty');
    expect((await gateway.ask('DELETE', '/v1/projects/empty')).status).toBe(204);
    expect(tooMany()).toEqual([]);
  });
});
