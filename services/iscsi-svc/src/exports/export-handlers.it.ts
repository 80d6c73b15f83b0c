import { exportCreate, exportCredentials, exportDelete, exportList } from '@m2/contracts';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openIscsi, type TestIscsi } from '../testing/iscsi.js';

let iscsi: TestIscsi;
beforeAll(async () => {
  // Reconciling has its own tests.
  iscsi = await openIscsi({ M2_RECONCILE_SECONDS: '3600', M2_PORTAL_ADVERTISED: 'storage.example.org' });
});
afterAll(() => iscsi?.close());

const credentials = (request: { exportId: string; project: string }) =>
  iscsi.ask(exportCredentials, { exportId: request.exportId, project: request.project });

describe('an export', () => {
  it('is a target for one initiator, at the portals as nodes see them', async () => {
    const request = iscsi.request();
    const made = await iscsi.tell(exportCreate, request);
    expect(made).toMatchObject({
      id: request.exportId,
      disk: request.disk,
      iqn: `iqn.2018-10.io.m2:${request.volume}`,
      lun: 1,
      initiator: request.initiator,
      portals: [{ address: 'storage.example.org', port: 3260 }],
      state: 'ready',
    });
    const spec = iscsi.targets.specs.get(made.iqn)!;
    expect(spec).toMatchObject({ pool: request.project, backing: request.backing, initiator: request.initiator });
    expect(await iscsi.events(request.exportId)).toEqual(['iscsi.export.created']);
  });

  it('has a secret of its own, which only the query for it tells, and nothing else holds in the clear', async () => {
    const [one, two] = [iscsi.request(), iscsi.request()];
    const replies = [await iscsi.tell(exportCreate, one), await iscsi.tell(exportCreate, two)];
    const [first, second] = [await credentials(one), await credentials(two)];
    expect(first).toMatchObject({ iqn: replies[0]!.iqn, initiator: one.initiator, portals: replies[0]!.portals });
    expect(first.secret).toMatch(/^[0-9a-f]{24}$/);
    expect(first.secret).not.toBe(second.secret);
    expect(first.user).not.toBe(second.user);
    expect(iscsi.targets.specs.get(first.iqn)!.chap).toEqual({ user: first.user, secret: first.secret });
    const tables = ['exports', 'm2_effects', 'm2_outbox'];
    for (const table of tables) {
      const text = JSON.stringify(await iscsi.kit.database.query(`SELECT to_jsonb(t) AS row FROM ${table} t`));
      expect(text).not.toContain(first.secret);
      expect(text).not.toContain(Buffer.from(first.secret).toString('hex'));
    }
    expect(JSON.stringify(replies) + iscsi.log.join('')).not.toContain(first.secret);
  });

  it('keeps its secret when its making is repeated after a crash', async () => {
    const request = iscsi.request();
    const effect = `${randomUUID()}/export-disk/do`;
    iscsi.targets.failing = { method: 'ensure', code: 'target.unreachable', afterwards: true };
    await expect(iscsi.tell(exportCreate, request, effect)).rejects.toMatchObject({
      code: 'target.unreachable',
      retryable: true,
    });
    await expect(credentials(request)).rejects.toMatchObject({ code: 'export.not_found' });
    const { chap } = iscsi.targets.specs.get(`iqn.2018-10.io.m2:${request.volume}`)!;
    const made = await iscsi.tell(exportCreate, request, effect);
    expect(await credentials(request)).toMatchObject({ user: chap.user, secret: chap.secret });
    expect(await iscsi.tell(exportCreate, request, effect)).toEqual(made);
    expect(await iscsi.events(request.exportId)).toEqual(['iscsi.export.created']);
  });

  it('of a disk that is exported already is refused, whoever asks at the same moment', async () => {
    const request = iscsi.request();
    const wanting = Array.from({ length: 5 }, () => ({ ...request, exportId: randomUUID() }));
    const outcomes = await Promise.allSettled(wanting.map((one) => iscsi.tell(exportCreate, one)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes.filter(({ status }) => status === 'rejected'))
      expect((outcome as PromiseRejectedResult).reason).toMatchObject({ code: 'export.conflict' });
    const again = { ...iscsi.request(), disk: request.disk };
    await expect(iscsi.tell(exportCreate, again)).rejects.toMatchObject({ code: 'export.conflict' });
  });

  it('of another project is not there', async () => {
    const request = iscsi.request();
    const { iqn } = await iscsi.tell(exportCreate, request);
    const foreign = { exportId: request.exportId, project: randomUUID() };
    await expect(credentials(foreign)).rejects.toMatchObject({ code: 'export.not_found' });
    await iscsi.tell(exportDelete, foreign);
    expect(iscsi.targets.specs.has(iqn)).toBe(true);
    expect(await credentials(request)).toMatchObject({ iqn });
  });
});

describe('deleting an export', () => {
  it('removes target, row and credentials; one that is not there is fine', async () => {
    const request = iscsi.request();
    const { iqn } = await iscsi.tell(exportCreate, request);
    const { exportId, project } = request;
    await iscsi.tell(exportDelete, { exportId, project });
    expect(iscsi.targets.specs.has(iqn)).toBe(false);
    await expect(credentials(request)).rejects.toMatchObject({ code: 'export.not_found' });
    await iscsi.tell(exportDelete, { exportId, project });
    await iscsi.tell(exportDelete, { exportId: randomUUID(), project });
    expect(await iscsi.events(exportId)).toEqual(['iscsi.export.created', 'iscsi.export.deleted']);
    // The same disk can be exported again.
    expect(await iscsi.tell(exportCreate, { ...request, exportId: randomUUID() })).toMatchObject({ iqn });
  });

  it('that fails keeps the row, so that it can be tried again, and gives no credentials meanwhile', async () => {
    const request = iscsi.request();
    await iscsi.tell(exportCreate, request);
    const { exportId, project } = request;
    iscsi.targets.failing = { method: 'remove', code: 'target.busy' };
    await expect(iscsi.tell(exportDelete, { exportId, project })).rejects.toMatchObject({ code: 'target.busy' });
    await expect(credentials(request)).rejects.toMatchObject({ code: 'export.not_found' });
    expect((await iscsi.ask(exportList, { project })).items).toMatchObject([{ id: exportId, state: 'deleting' }]);
    await iscsi.tell(exportDelete, { exportId, project });
    expect((await iscsi.ask(exportList, { project })).items).toEqual([]);
  });

  it('wins over a creation that finishes later', async () => {
    const request = iscsi.request();
    const { exportId, project } = request;
    const iqn = `iqn.2018-10.io.m2:${request.volume}`;
    iscsi.targets.made = async () => {
      iscsi.targets.made = async () => {};
      iscsi.targets.failing = { method: 'remove', code: 'target.busy' };
      await expect(iscsi.tell(exportDelete, { exportId, project })).rejects.toMatchObject({ code: 'target.busy' });
    };
    await expect(iscsi.tell(exportCreate, request)).rejects.toMatchObject({ code: 'export.not_found' });
    expect((await iscsi.ask(exportList, { project })).items).toMatchObject([{ id: exportId, state: 'deleting' }]);
    expect(iscsi.targets.specs.has(iqn)).toBe(false);
    // Neither does a creation that begins now.
    await expect(iscsi.tell(exportCreate, request)).rejects.toMatchObject({ code: 'export.not_found' });
    expect(iscsi.targets.specs.has(iqn)).toBe(false);
    await iscsi.tell(exportDelete, { exportId, project });
    expect(await iscsi.events(exportId)).toEqual(['iscsi.export.deleted']);
  });

  it('that ends before the creation has made its target leaves none', async () => {
    const request = iscsi.request();
    const { exportId, project } = request;
    iscsi.targets.made = async () => {
      iscsi.targets.made = async () => {};
      const before = new Map(iscsi.targets.specs);
      await iscsi.tell(exportDelete, { exportId, project });
      for (const [iqn, spec] of before) iscsi.targets.specs.set(iqn, spec);
    };
    await expect(iscsi.tell(exportCreate, request)).rejects.toMatchObject({ code: 'export.not_found' });
    expect(iscsi.targets.specs.has(`iqn.2018-10.io.m2:${request.volume}`)).toBe(false);
    expect((await iscsi.ask(exportList, { project })).items).toEqual([]);
  });

  it('undoes a making that failed halfway', async () => {
    const request = iscsi.request();
    iscsi.targets.failing = { method: 'ensure', code: 'target.no_backing', afterwards: true };
    await expect(iscsi.tell(exportCreate, request)).rejects.toMatchObject({ code: 'target.no_backing' });
    await iscsi.tell(exportDelete, { exportId: request.exportId, project: request.project });
    expect(iscsi.targets.specs.has(`iqn.2018-10.io.m2:${request.volume}`)).toBe(false);
    expect((await iscsi.ask(exportList, { project: request.project })).items).toEqual([]);
  });
});

it('the exports of a project come in pages, the newest first', async () => {
  const project = randomUUID();
  const ids = [
    '0198f7a0-0000-7000-8000-000000000001',
    '0198f7a0-0000-7000-8000-000000000002',
    '0198f7a0-0000-7000-8000-000000000003',
  ];
  for (const exportId of ids) await iscsi.tell(exportCreate, iscsi.request({ exportId, project }));
  const first = await iscsi.ask(exportList, { project, limit: 2 });
  expect(first.items.map(({ id }) => id)).toEqual([ids[2], ids[1]]);
  const second = await iscsi.ask(exportList, { project, limit: 2, cursor: first.next });
  expect([second.items.map(({ id }) => id), second.next]).toEqual([[ids[0]], undefined]);
  expect(JSON.stringify(first)).not.toMatch(/chap|secret/i);
});
