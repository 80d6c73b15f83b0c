import type { Database } from './database.js';
import type { Logger } from './log.js';

const hourMs = 3_600_000;

/**
 * Deletes, every hour, records that nobody can ask for any more. Inbox and effects are kept much longer than the stream's seven days and than any
 * operation: a repeated message whose record is gone would be carried out again.
 */
export function startRetention(database: Database, log: Logger): () => void {
  const sweep = async () => {
    try {
      await database.query(`DELETE FROM m2_effects WHERE done_at < now() - interval '90 days'`);
      await database.query(`DELETE FROM m2_fences WHERE touched_at < now() - interval '90 days'`);
      await database.query(`DELETE FROM m2_inbox WHERE received_at < now() - interval '90 days'`);
      await database.query(`DELETE FROM m2_outbox WHERE published_at < now() - interval '90 days'`);
    } catch (error) {
      log.warn({ err: error }, 'old records could not be deleted');
    }
  };
  const timer = setInterval(() => void sweep(), hourMs).unref();
  return () => clearInterval(timer);
}
