import type { Sql } from './database.js';

/**
 * Turns that the replicas of a service take: locks on rows of the service's own schema, until the end of the transaction. An advisory lock is
 * named by a number that any role of the database can lock as well, and then keep for ever.
 */

/** Waits for the turn. */
export async function takeTurn(sql: Sql, name: string): Promise<void> {
  const take = () => sql.query('SELECT FROM m2_turns WHERE name = $1 FOR UPDATE', [name]);
  if ((await take()).length > 0) return;
  await sql.query('INSERT INTO m2_turns (name) VALUES ($1) ON CONFLICT DO NOTHING', [name]);
  await take();
}
