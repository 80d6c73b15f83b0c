import { type FileHandle, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Database } from './database.js';
import type { Logger } from './log.js';
import { allExpiring, deleteExpired, type Expiring } from './retention.js';
import { sharedPostgres } from './testing/index.js';

let database: Database;
let directory: string;
const things: Expiring = { table: 'things', since: 'ended_at', days: 10, record: 'to_jsonb(r)' };

beforeAll(async () => {
  const url = await (await sharedPostgres()).database();
  database = await Database.open({ url, poolSize: 4, applicationName: 'test', migrations: [], entities: [] });
  await database.query('CREATE TABLE things (id int PRIMARY KEY, kept boolean NOT NULL, ended_at timestamptz)');
  await database.query('CREATE TABLE parts (thing int REFERENCES things ON DELETE CASCADE, name text)');
});
afterAll(() => database?.close());
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'm2-retention-'));
  await database.query('TRUNCATE things CASCADE');
  // 2,500 are old, one of them is to stay; 10 are young, 10 have not ended.
  await database.query(
    `INSERT INTO things SELECT n, n = 7, CASE WHEN n <= 2500 THEN now() - interval '11 days' WHEN n <= 2510 THEN now() END
     FROM generate_series(1, 2520) n`,
  );
  await database.query(`INSERT INTO parts SELECT n, 'part of ' || n FROM generate_series(1, 2520) n`);
  return () => rm(directory, { recursive: true, force: true });
});

const run = (expiring: Expiring, to?: string) =>
  deleteExpired(
    { database, log: undefined as unknown as Logger, expiring: [expiring], directory: to },
    new AbortController().signal,
  );
/** What all open files have in common. */
const handles = async () => {
  const file = await open(directory, 'r');
  await file.close();
  return Object.getPrototypeOf(file) as FileHandle;
};
const left = async () =>
  (await database.query<{ id: number }>('SELECT id FROM things ORDER BY id')).map(({ id }) => id);
const linesIn = async (file: string) =>
  (await readFile(join(directory, file), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { id: number });

describe('what has expired', () => {
  it('is deleted in batches, and what has not, or must stay, is not', async () => {
    await run({ ...things, unless: 'r.kept' });
    expect(await left()).toEqual([7, ...Array.from({ length: 20 }, (_, n) => 2501 + n)]);
    expect(await database.query('SELECT thing FROM parts WHERE thing < 2501')).toEqual([{ thing: 7 }]);
    expect(await readdir(directory)).toEqual([]);
  });

  it('stays when it has no life', async () => {
    await run({ ...things, days: undefined }, directory);
    expect(await left()).toHaveLength(2520);
  });

  it('is in files before it is deleted, each row once, with what goes with it', async () => {
    const record = `to_jsonb(r) || jsonb_build_object('parts', (SELECT jsonb_agg(name) FROM parts WHERE thing = r.id))`;
    await run({ ...things, record }, directory);
    const files = await readdir(directory);
    expect(files.filter((name) => !/^things-\d{8}T\d{6}Z-[0-9a-f]{8}\.jsonl$/.test(name))).toEqual([]);
    const lines = (await Promise.all(files.map(linesIn))).flat();
    expect(files).toHaveLength(3);
    expect(lines.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 2500 }, (_, n) => n + 1));
    expect(lines.find(({ id }) => id === 9)).toMatchObject({ kept: false, parts: ['part of 9'] });
    expect(await left()).toHaveLength(20);
  });

  it('is not deleted when it cannot be written', async () => {
    await expect(run(things, join(directory, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await left()).toHaveLength(2520);
  });

  it('of one table does not wait for another one', async () => {
    const [bad, good] = [{ ...things, table: 'nothing_of_that_name' }, things];
    const all = { database, log: undefined as unknown as Logger, expiring: [bad, good] };
    await expect(deleteExpired(all, new AbortController().signal)).rejects.toThrow(/nothing_of_that_name/);
    expect(await left()).toHaveLength(20);
  });

  it('leaves no part of a file that could not be written', async () => {
    const full = vi.spyOn(await handles(), 'writeFile').mockRejectedValueOnce(new Error('ENOSPC'));
    await expect(run(things, directory)).rejects.toThrow('ENOSPC');
    full.mockRestore();
    expect(await readdir(directory)).toEqual([]);
    expect(await left()).toHaveLength(2520);
  });

  it('is left to whoever works on it at the moment', async () => {
    await database.transaction(async (sql) => {
      await sql.query('SELECT FROM things WHERE id = 3 FOR UPDATE');
      await run(things);
    });
    expect((await left())[0]).toBe(3);
  });
});

it('of processes that died long ago, what they held is forgotten, and what a living one holds is not', async () => {
  const [living, dead] = ['0190a1b2-0000-7000-8000-000000000001', '0190a1b2-0000-7000-8000-000000000002'];
  await database.query(
    `INSERT INTO m2_processes (id, instance, seen_at) VALUES ($1, 'a', now()), ($2, 'b', now() - interval '2 days')`,
    [living, dead],
  );
  await database.query(
    `INSERT INTO m2_leases (name, owner, since)
     VALUES ('kept', $1, now() - interval '2 days'), ('left', $2, now() - interval '2 days')`,
    [living, dead],
  );
  for (const one of allExpiring([])) await run(one);
  expect(await database.query('SELECT name FROM m2_leases')).toEqual([{ name: 'kept' }]);
  expect(await database.query('SELECT id FROM m2_processes')).toEqual([{ id: living }]);
});
