import { quotaSet, quotaShow, storageCheck, storageFreeing, storageRepair } from '@m2/contracts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openGateway, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let lab: { id: string };

beforeAll(async () => {
  gateway = await openGateway();
  lab = await gateway.project('lab');
});
afterAll(() => gateway?.close());

const last = () => gateway.standIns.asked.at(-1);

it('a quota is shown to the project, and set by an operator, as one change without an operation', async () => {
  const member = await gateway.token('member', 'lab');
  const shown = await gateway.ask('GET', '/v1/projects/lab/quota', { token: member });
  expect([shown.status, shown.body]).toMatchObject([200, { limits: { bytes: null }, used: { disks: 0 } }]);
  expect(last()).toMatchObject({ subject: quotaShow.subject, project: lab.id });
  const limits = { bytes: 2 ** 40, disks: 10, images: null };
  const set = await gateway.ask('PUT', '/v1/projects/lab/quota', { body: limits });
  expect([set.status, set.body]).toMatchObject([200, { limits }]);
  expect(last()).toMatchObject({ subject: quotaSet.subject, request: { project: lab.id, limits } });
  expect(last()!.effect).toMatch(/^direct\//);
  for (const body of [{}, { bytes: -1, disks: null, images: null }, { bytes: 1.5, disks: null, images: null }])
    expect((await gateway.ask('PUT', '/v1/projects/lab/quota', { body })).status).toBe(400);
  expect((await gateway.ask('PUT', '/v1/projects/lab/quota', { body: limits, token: member })).status).toBe(403);
});

it('the storage is checked and repaired on demand', async () => {
  const operator = await gateway.token('operator');
  const checked = await gateway.ask('GET', '/v1/storage/check', { token: operator });
  expect([checked.status, checked.body, last()!.subject]).toEqual([200, { items: [] }, storageCheck.subject]);
  const repaired = await gateway.ask('POST', '/v1/storage/repair', { token: operator });
  expect([repaired.status, repaired.body]).toEqual([200, { repaired: [], left: [], more: false }]);
  expect(last()).toMatchObject({
    subject: storageRepair.subject,
    effect: expect.stringMatching(/^direct\//) as string,
  });
});

it('an operator sees what space is being freed, and a member does not', async () => {
  const line = ['GET', '/v1/storage/freeing?limit=2'] as const;
  const shown = await gateway.ask(...line, { token: await gateway.token('operator') });
  expect([shown.status, shown.body, last()]).toMatchObject([
    200,
    { items: [] },
    { subject: storageFreeing.subject, request: { limit: 2 } },
  ]);
  expect((await gateway.ask(...line, { token: await gateway.token('member', 'lab') })).status).toBe(403);
});
