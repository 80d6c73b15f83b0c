import { deleteExpired, type Kit } from '@m2/service-kit';
import { watchPlans } from '@m2/service-kit/testing';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewayExpiring } from './retention.js';
import { fillGateway } from './testing/fill.js';
import { openRunners, type TestRunners } from './testing/runners.js';

let all: TestRunners;
let kit: Kit;
let directory: string;
let plans: Awaited<ReturnType<typeof watchPlans>>;

beforeAll(async () => {
  all = await openRunners();
  ({ kit } = all);
  directory = await mkdtemp(join(tmpdir(), 'm2-retention-'));
  await fillGateway(kit.database, 0.1);
  // A third of all is two years old.
  for (const [table, columns] of Object.entries({
    operations: ['created_at', 'ended_at'],
    provisions: ['created_at', 'ended_at'],
    events: ['time'],
  }))
    await kit.database.query(
      `UPDATE ${table} SET ${columns.map((column) => `${column} = ${column} - interval '2 years'`).join(', ')}
       WHERE right(id::text, 12)::bigint <= 10000`,
    );
  plans = await watchPlans(kit.database);
});
afterAll(async () => {
  await all?.close();
  await rm(directory, { recursive: true, force: true });
});

const count = async (from: string) =>
  (await kit.database.query<{ count: number }>(`SELECT count(*)::int AS count FROM ${from}`))[0]!.count;
const run = (config: { retentionDirectory?: string; auditDays?: number }) => {
  const { retentionDirectory } = config;
  const expiring = gatewayExpiring({ retentionDays: 90, retentionDirectory, auditDays: config.auditDays });
  return deleteExpired(
    { database: kit.database, log: kit.log, expiring, directory: retentionDirectory },
    new AbortController().signal,
  );
};

describe('what ended years ago', () => {
  it('is deleted; but not what is current, what waits for a person, and nothing of the audit', async () => {
    const current = await count(`provisions WHERE ended_at IS NULL`);
    await run({});
    expect(await count('events')).toBe(30_000);
    expect(await count('provisions WHERE ended_at IS NULL')).toBe(current);
    expect(await count('provisions')).toBe(current);
    // Those that made a provision that is there, and four that need attention.
    const kept = await count(`operations o WHERE EXISTS (SELECT FROM provisions p WHERE p.operation = o.id)`);
    expect(kept).toBe(current);
    expect(await count(`operations WHERE created_at < now() - interval '1 year'`)).toBe(current + 4);
    expect(await count('operation_steps')).toBe(3 * (await count('operations')));
  });

  it('is no more audit after a year, where it was written to a file, or where somebody said so', async () => {
    await run({ retentionDirectory: directory });
    expect(await count('events')).toBe(20_000);
    const files = await readdir(directory);
    expect(files).toHaveLength(10);
    const [line] = (await readFile(join(directory, files[0]!), 'utf8')).split('\n');
    expect(JSON.parse(line!)).toMatchObject({ data: { id: 'x' }, type: expect.any(String) as string });
    await run({ auditDays: 30 });
    expect(await count('events')).toBe(20_000);
  });

  it('is found by an index', () => {
    const deletes = plans.scans().filter(({ statement }) => statement.startsWith('DELETE'));
    expect(deletes.length).toBeGreaterThan(5);
    expect(deletes.filter(({ how, rows }) => how === 'Seq Scan' && rows > 1_000)).toEqual([]);
  });
});
