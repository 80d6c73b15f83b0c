import type { Database } from './database.js';
import type { Logger } from './log.js';
import { Periodic } from './periodic.js';

const hourMs = 3_600_000;

/**
 * Deletes, every hour, records that nobody can ask for any more. Inbox and effects are kept much longer than the stream's seven days and than any
 * operation: a repeated message whose record is gone would be carried out again.
 */
export function startRetention(database: Database, log: Logger): Periodic {
  const retention = new Periodic({
    everyMs: hourMs,
    work: async () => {
      await database.query(`DELETE FROM m2_effects WHERE done_at < now() - interval '90 days'`);
      await database.query(`DELETE FROM m2_fences WHERE touched_at < now() - interval '90 days'`);
      await database.query(`DELETE FROM m2_inbox WHERE received_at < now() - interval '90 days'`);
      await database.query('DELETE FROM m2_leases WHERE NOT m2_lives(owner)');
      await database.query(`DELETE FROM m2_processes WHERE seen_at < now() - interval '1 hour'`);
      await database.query(`DELETE FROM m2_outbox WHERE published_at < now() - interval '90 days'`);
    },
    onError: (err) => log.warn({ err }, 'old records could not be deleted'),
  });
  retention.start();
  return retention;
}
