import { exportCreate, exportCredentials, exportDelete, exportList } from '@m2/contracts';
import { watchPlans } from '@m2/service-kit/testing';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openIscsi, type TestIscsi } from './testing/iscsi.js';

let iscsi: TestIscsi;
let plans: Awaited<ReturnType<typeof watchPlans>>;
const project = '00000000-0000-7000-8000-000000000001';

beforeAll(async () => {
  // The reconciler reads all exports, and has no work while these are of another host.
  iscsi = await openIscsi({ M2_RECONCILE_SECONDS: '3600' });
  await iscsi.kit.database.query(
    `WITH filled AS (
       INSERT INTO exports (id, project, disk, iqn, initiator, backing, chap_user, chap_secret, state)
       SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN '${project}'::uuid ELSE gen_random_uuid() END, gen_random_uuid(), 'iqn.2018-10.io.m2:filled' || n,
         'iqn.2018-10.io.m2:node' || n, '{"type": "file", "path": "/x"}', 'user-' || n, '', 'ready'
       FROM generate_series(1, 10000) n RETURNING id)
     INSERT INTO export_portals (export, host, portals) SELECT id, 'elsewhere', '[{"address": "192.0.2.1", "port": 3260}]' FROM filled`,
  );
  plans = await watchPlans(iscsi.kit.database);
});
afterAll(() => iscsi?.close());

it('with 10,000 exports, no statement looks at more than it needs', async () => {
  const { next } = await iscsi.ask(exportList, { project, limit: 50 });
  expect((await iscsi.ask(exportList, { project, limit: 50, cursor: next! })).items).toHaveLength(50);
  const request = iscsi.request({ project, exportId: randomUUID() });
  await iscsi.tell(exportCreate, request);
  const { exportId } = request;
  await iscsi.ask(exportCredentials, { exportId, project });
  await iscsi.tell(exportDelete, { exportId, project, nodeSeenOff: true });
  expect(plans.scans().length).toBeGreaterThan(5);
  expect(plans.scans().filter(({ rows }) => rows > 1_000)).toEqual([]);
});
