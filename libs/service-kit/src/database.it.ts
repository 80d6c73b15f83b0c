import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database, type Sql } from './database.js';
import { sharedPostgres } from './testing/index.js';

let database: Database;

beforeAll(async () => {
  const url = await (await sharedPostgres()).database();
  database = await Database.open({ url, poolSize: 2, applicationName: 'test', migrations: [], entities: [] });
  await database.query('CREATE TABLE things (name text PRIMARY KEY)');
});
afterAll(() => database?.close());

it('a transaction that has ended takes nothing more, not even from work that nobody waited for', async () => {
  const late: { work?: Promise<unknown>; sql?: Sql } = {};
  const gate = Promise.withResolvers<void>();
  const failed = database.transaction(async (sql) => {
    late.work = (async () => {
      await sql.query('SELECT 1');
      await gate.promise;
      await sql.query(`INSERT INTO things VALUES ('late')`);
    })();
    late.work.catch(() => {});
    await sql.query('SELECT nonsense');
  });
  await expect(failed).rejects.toThrow(/nonsense/);
  gate.resolve();
  await expect(late.work).rejects.toThrow('The transaction has ended');
  await database.transaction(async (sql) => {
    late.sql = sql;
    await sql.query(`INSERT INTO things VALUES ('in time')`);
  });
  await expect(late.sql!.query(`INSERT INTO things VALUES ('late')`)).rejects.toThrow('The transaction has ended');
  expect(await database.query('SELECT name FROM things')).toEqual([{ name: 'in time' }]);
});
