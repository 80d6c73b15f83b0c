import type { ErrorValue, StepState } from '@m2/contracts';
import type { Database } from '@m2/service-kit';
import type { Skip } from './saga.js';

/** One step of an operation. What changes of it is written whole. */
export interface StepRow {
  name: string;
  /** The steps that it waits for; null: accepted before this was kept. */
  after: string[] | null;
  state: StepState;
  attempts: number;
  startedAt: string | null;
  endedAt: string | null;
  reply: unknown;
  error: ErrorValue | null;
  undoStartedAt: string | null;
  undoEndedAt: string | null;
  /** A person left it out. */
  skip: Skip | null;
}

/** A step on record, with what it says while the service that it needs is not there. */
export interface RecordedStep extends StepRow {
  absent: string | null;
}

/** Another runner has taken the operation over; this one must let go of it. */
export class LostOperation extends Error {
  override readonly name = 'LostOperation';
}

interface Entry {
  operation: string;
  fence: number;
  steps: StepRow[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Writes what operations intend and what came of it. Writes that come while one is under way go together in the next, so that
 * three hundred operations cost a handful of commits, not thousands: a durable commit is the dearest thing that a step does.
 *
 * A write holds only while its fence is the operation's: the row is locked for share, so a runner that takes over waits for it.
 */
export class Journal {
  private waiting: Entry[] = [];
  private writing = false;

  constructor(private readonly database: Database) {}

  /** Returns when it is durable. Throws LostOperation. */
  write(operation: string, fence: number, steps: StepRow[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.waiting.push({ operation, fence, steps, resolve, reject });
    if (!this.writing) void this.drain();
    return promise;
  }

  private async drain(): Promise<void> {
    this.writing = true;
    // Whatever else becomes ready in this turn of the event loop joins the first write.
    await new Promise(setImmediate);
    while (this.waiting.length > 0) await this.flush(this.takeBatch());
    this.writing = false;
  }

  /** At most one entry of an operation in a batch: two rows for one step in one UPDATE would keep either. */
  private takeBatch(): Entry[] {
    const seen = new Set<string>();
    const batch: Entry[] = [];
    const rest: Entry[] = [];
    for (const entry of this.waiting) {
      (seen.has(entry.operation) ? rest : batch).push(entry);
      seen.add(entry.operation);
    }
    this.waiting = rest;
    return batch;
  }

  private async flush(batch: Entry[]): Promise<void> {
    try {
      const rows = batch.flatMap(({ operation, fence, steps }) =>
        steps.map(({ after: _, skip: __, ...step }) => ({ operation, fence, ...step })),
      );
      const written = await this.database.query<{ operation: string }>(
        `WITH changes AS (
           SELECT * FROM jsonb_to_recordset($1::jsonb) AS c(operation uuid, fence bigint, name text, state text, attempts int,
             "startedAt" timestamptz, "endedAt" timestamptz, reply jsonb, error jsonb, "undoStartedAt" timestamptz,
             "undoEndedAt" timestamptz)
         ), mine AS (
           SELECT o.id FROM operations o WHERE (o.id, o.fence) IN (SELECT operation, fence FROM changes) FOR SHARE
         ), progress AS (
           -- a step that came to its end is progress: the runners before this one did not fail for nothing
           UPDATE operations o SET takeovers = 0
           FROM changes c JOIN mine m ON m.id = c.operation
           WHERE o.id = c.operation AND o.takeovers > 0 AND c.state IN ('done', 'skipped', 'undone')
         )
         UPDATE operation_steps s
         SET state = c.state, attempts = c.attempts, started_at = c."startedAt", ended_at = c."endedAt", reply = c.reply,
             error = c.error, undo_started_at = c."undoStartedAt", undo_ended_at = c."undoEndedAt",
             progress = CASE WHEN c.state = 'running' THEN s.progress END, absent = NULL
         FROM changes c JOIN mine m ON m.id = c.operation
         WHERE s.operation = c.operation AND s.name = c.name
         RETURNING s.operation`,
        [JSON.stringify(rows)],
      );
      const mine = new Set(written.map((row) => row.operation));
      for (const entry of batch)
        if (mine.has(entry.operation)) entry.resolve();
        else entry.reject(new LostOperation(`Another runner has operation ${entry.operation}`));
    } catch (error) {
      for (const entry of batch) entry.reject(error);
    }
  }
}
