import type { Sql } from './database.js';
import type { ReceivedEvent } from './received-event.js';

/** Events that nothing could be done with, again and again. They wait for a corrected program: each start of the service tries them once more. */
export async function park(
  sql: Sql,
  consumer: string,
  { id, type, project, entity, time, traceparent, data }: ReceivedEvent,
  tries: number,
  error: unknown,
): Promise<void> {
  const text = (error instanceof Error ? error.message : String(error)).replaceAll('\0', '\ufffd').slice(0, 2_000);
  await sql.query(
    `INSERT INTO m2_parked_events AS p (consumer, id, type, project, entity, time, traceparent, data, tries, error)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
     ON CONFLICT (consumer, id) DO UPDATE SET tries = p.tries + excluded.tries, error = excluded.error`,
    [consumer, id, type, project, entity, time, traceparent, JSON.stringify(data), tries, text],
  );
}

/** The oldest of them, as they came. */
export async function parkedOf(sql: Sql, consumer: string): Promise<ReceivedEvent[]> {
  const rows = await sql.query<Omit<ReceivedEvent, 'time'> & { time: Date }>(
    `SELECT id, type, project, entity, time, traceparent, data FROM m2_parked_events WHERE consumer = $1
     ORDER BY parked_at, id LIMIT 1000`,
    [consumer],
  );
  return rows.map((row) => ({ ...row, time: row.time.toISOString() }));
}

export async function unpark(sql: Sql, consumer: string, id: string): Promise<void> {
  await sql.query('DELETE FROM m2_parked_events WHERE consumer = $1 AND id = $2', [consumer, id]);
}
