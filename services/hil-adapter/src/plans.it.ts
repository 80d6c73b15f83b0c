import {
  networkAttach,
  networkDetach,
  nodeList,
  nodeRelease,
  nodeRemove,
  nodeShow,
  powerBoot,
  powerOff,
} from '@m2/contracts';
import { askedOften, watchPlans } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openHil, type TestHil } from './testing/hil.js';

let hil: TestHil;
let plans: Awaited<ReturnType<typeof watchPlans>>;
const project = uuidv7();

beforeAll(async () => {
  hil = await openHil();
  const { database } = hil.kit;
  await database.query(
    `INSERT INTO nodes (id, name, project, firmware, bmc, bmc_password)
     SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'filled-' || n,
       CASE WHEN n % 100 = 0 THEN $1::uuid WHEN n % 100 > 1 THEN gen_random_uuid() END, 'bios',
       '{"driver": "ipmi", "address": "192.0.2.1", "port": 623, "user": "x", "cipherSuites": [17]}', ''
     FROM generate_series(1, 10000) n`,
    [project],
  );
  await database.query(
    `INSERT INTO nics (node, label, mac, position)
     SELECT id, 'eth' || nic, ('06:00:00:' || substr(lpad(to_hex(row_number() OVER ()), 6, '0'), 1, 2) || ':'
       || substr(lpad(to_hex(row_number() OVER ()), 6, '0'), 3, 2) || ':' || substr(lpad(to_hex(row_number() OVER ()), 6, '0'), 5, 2))::macaddr, nic
     FROM nodes, generate_series(0, 1) nic`,
  );
  plans = await watchPlans(database);
});
afterAll(() => hil?.close());

it('with 10,000 nodes, no statement looks at more than it needs', async () => {
  for (const of of [{}, { project }, { project, own: true }])
    await askedOften(() => hil.ask(nodeList, { limit: 50, ...of }));
  const all = await hil.ask(nodeList, { limit: 50 });
  await hil.ask(nodeList, { limit: 50, cursor: all.next! });
  const own = await hil.ask(nodeList, { limit: 50, project });
  expect(own.items.map((node) => node.project).filter((of) => of !== null && of !== project)).toEqual([]);
  expect(own.items[0]!.nics).toHaveLength(2);
  const names = [...own.items, ...(await hil.ask(nodeList, { limit: 50, project, cursor: own.next! })).items];
  expect(new Set(names.map(({ name }) => name)).size).toBe(100);
  expect(names.map(({ name }) => name)).toEqual(names.map(({ name }) => name).toSorted());

  const { node, holder } = await hil.held(project);
  for (const asked of [node.id, node.name]) await hil.ask(nodeShow, { node: asked, project });
  const of = { nodeId: node.id, project, holder };
  await hil.tell(networkAttach, { ...of, nic: 'eth0', network: 'flat' });
  await hil.tell(powerBoot, of);
  await hil.tell(powerOff, of);
  await hil.tell(networkDetach, { ...of, nic: 'eth0', network: 'flat' });
  await hil.tell(nodeRelease, of);
  await hil.tell(nodeRemove, { nodeId: node.id });
  expect(plans.scans().length).toBeGreaterThan(10);
  expect(plans.scans().filter(({ rows }) => rows > 1_000)).toEqual([]);
});
