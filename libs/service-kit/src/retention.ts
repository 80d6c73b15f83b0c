import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from './database.js';
import type { Logger } from './log.js';
import { Periodic } from './periodic.js';

const hourMs = 3_600_000;
const batchSize = 1_000;

/** Rows of one table that nobody asks for any more after a while. */
export interface Expiring {
  table: string;
  /** The column with the moment from which a row ages, which has an index. Rows that have none stay. */
  since: string;
  /** Undefined: they are kept for ever. */
  days: number | undefined;
  /** SQL: rows that stay, however old; `r` is the row. */
  unless?: string;
  /** SQL: what of a row `r` is exported, as JSON, where a directory for that is configured. Absent: nothing. */
  record?: string;
}

/**
 * The plumbing's own. Inbox and effects are kept much longer than the stream's seven days and than any operation: a repeated message whose record
 * is gone would be carried out again.
 */
const plumbing: Expiring[] = [
  { table: 'm2_effects', since: 'done_at', days: 90 },
  { table: 'm2_fences', since: 'touched_at', days: 90 },
  { table: 'm2_inbox', since: 'received_at', days: 90 },
  { table: 'm2_outbox', since: 'published_at', days: 90 },
  { table: 'm2_parked_events', since: 'parked_at', days: 90 },
  // Of processes that died, and that nobody of their name followed.
  { table: 'm2_leases', since: 'since', days: 1, unless: 'm2_lives(r.owner)' },
  { table: 'm2_processes', since: 'seen_at', days: 1 },
];

/** All that expires in the database of a service that has these `expiring` tables of its own. */
export const allExpiring = (expiring: Expiring[]): Expiring[] => [...plumbing, ...expiring];

export interface RetentionOptions {
  database: Database;
  log: Logger;
  expiring: Expiring[];
  /** Where what has a `record` is written before it is deleted; absent: it is deleted. */
  directory?: string | undefined;
}

/** Deletes every hour what has expired, in batches, so that no transaction is long. */
export function startRetention(options: RetentionOptions): Periodic {
  const { log } = options;
  const retention = new Periodic({
    everyMs: hourMs,
    work: (signal) => deleteExpired(options, signal),
    onError: (err) => log.warn({ err }, 'old records could not be deleted'),
  });
  retention.start();
  return retention;
}

/** One table does not wait for another, where that cannot be written, say. Throws, at the end, what the first one threw. */
export async function deleteExpired(options: RetentionOptions, signal: AbortSignal): Promise<void> {
  const failures: unknown[] = [];
  for (const one of options.expiring)
    await deleteOf(one, options, signal).catch((error: unknown) => {
      failures.push(error);
    });
  if (failures.length > 0) throw failures[0];
}

async function deleteOf(
  expiring: Expiring,
  { database, directory }: RetentionOptions,
  signal: AbortSignal,
): Promise<void> {
  if (expiring.days === undefined) return;
  while (!signal.aborted && (await deleteBatch(database, expiring, directory)) === batchSize);
}

/**
 * A batch is in its file, and the file on disk, before the transaction that deletes it is committed. After a crash in between the rows are still
 * there, and come again in another file.
 */
function deleteBatch(database: Database, expiring: Expiring, directory: string | undefined): Promise<number> {
  const { table, since, days, unless, record } = expiring;
  return database.transaction(async (sql) => {
    const rows = await sql.query<{ record: unknown }>(
      // Replicas do this side by side: one passes by what the other has locked.
      `DELETE FROM ${table} r WHERE ctid = ANY (ARRAY(
         SELECT ctid FROM ${table} r WHERE ${since} < now() - $1 * interval '1 day' ${unless ? `AND NOT (${unless})` : ''}
         ORDER BY ${since} LIMIT ${batchSize} FOR UPDATE SKIP LOCKED))
       RETURNING ${(directory && record) || 'NULL'} AS record`,
      [days],
    );
    if (rows.length > 0 && directory && record)
      await writeLines(
        directory,
        table,
        rows.map((row) => row.record),
      );
    return rows.length;
  });
}

/** Under another name until it is whole, so that a file with the right name is. */
async function writeLines(directory: string, table: string, records: unknown[]): Promise<void> {
  const time = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const path = join(directory, `${table}-${time}-${randomBytes(4).toString('hex')}.jsonl`);
  const file = await open(`${path}.partial`, 'wx', 0o600);
  try {
    await file.writeFile(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    await file.sync();
    await rename(`${path}.partial`, path);
  } catch (error) {
    // It would take room on a disk that has none, anew at each try.
    await rm(`${path}.partial`, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  const parent = await open(directory, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}
