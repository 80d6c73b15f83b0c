import type { ErrorValue, StepState } from '@m2/contracts';
import { type Database, isConnectionError } from '@m2/service-kit';
import { setTimeout as pause } from 'node:timers/promises';
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

/** While many operations are at work, those that come so soon after a write go together in the next. */
const lingerMs = 20;

/** The operation, as its runner has it. */
interface Holding {
  id: string;
  fence: number;
  takeovers: number;
}

interface Entry {
  operation: Holding;
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
  write({ id, fence, takeovers }: Holding, steps: StepRow[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.waiting.push({ operation: { id, fence, takeovers }, steps, resolve, reject });
    if (!this.writing) void this.drain();
    return promise;
  }

  private async drain(): Promise<void> {
    this.writing = true;
    // Whatever else becomes ready in this turn of the event loop joins the first write.
    await new Promise(setImmediate);
    while (this.waiting.length > 0) {
      const batch = this.takeBatch();
      await this.flush(batch);
      // One that is at work alone waits for nobody.
      if (batch.length > 1) await pause(lingerMs);
    }
    this.writing = false;
  }

  /** At most one entry of an operation in a batch: two rows for one step in one UPDATE would keep either. */
  private takeBatch(): Entry[] {
    const seen = new Set<string>();
    const batch: Entry[] = [];
    const rest: Entry[] = [];
    for (const entry of this.waiting) {
      (seen.has(entry.operation.id) ? rest : batch).push(entry);
      seen.add(entry.operation.id);
    }
    this.waiting = rest;
    return batch;
  }

  /** One row to a function call (`unnest` of an array, and a record of each) makes PostgreSQL expect few of them, and so find each by its key. */
  private async flush(batch: Entry[]): Promise<void> {
    try {
      const rows = batch.flatMap(({ operation, steps }) =>
        steps.map(({ after: _, skip: __, ...step }) => JSON.stringify({ operation: operation.id, ...step })),
      );
      // A step that came to its end is progress: the runners before this one did not fail for nothing.
      const progress = `, progress AS (
          UPDATE operations o SET takeovers = 0
          FROM changes c JOIN mine m ON m.id = c.operation
          WHERE o.id = c.operation AND o.takeovers > 0 AND c.state IN ('done', 'skipped', 'undone'))`;
      const written = await this.database.query<{ operation: string }>(
        `WITH changes AS (
           SELECT c.* FROM unnest($1::jsonb[]) AS one(change), jsonb_to_record(one.change) AS c(operation uuid, name text, state text,
             attempts int, "startedAt" timestamptz, "endedAt" timestamptz, reply jsonb, error jsonb, "undoStartedAt" timestamptz,
             "undoEndedAt" timestamptz)
         ), mine AS (
           SELECT o.id FROM unnest($2::uuid[], $3::bigint[]) AS h(id, fence) JOIN operations o ON o.id = h.id AND o.fence = h.fence
           -- in the order in which \`keepLeases\` locks them: else the two might wait for each other
           ORDER BY o.id FOR SHARE OF o
         ) ${batch.some(({ operation }) => operation.takeovers > 0) ? progress : ''}
         UPDATE operation_steps s
         SET state = c.state, attempts = c.attempts, started_at = c."startedAt", ended_at = c."endedAt", reply = c.reply,
             error = c.error, undo_started_at = c."undoStartedAt", undo_ended_at = c."undoEndedAt",
             progress = CASE WHEN c.state = 'running' THEN s.progress END, absent = NULL
         FROM changes c JOIN mine m ON m.id = c.operation
         WHERE s.operation = c.operation AND s.name = c.name
         RETURNING s.operation`,
        [rows, batch.map(({ operation }) => operation.id), batch.map(({ operation }) => operation.fence)],
      );
      const mine = new Set(written.map((row) => row.operation));
      for (const { operation, resolve, reject } of batch)
        if (mine.has(operation.id)) resolve();
        else reject(new LostOperation(`Another runner has operation ${operation.id}`));
    } catch (error) {
      // One of them may be what the database refuses (a text with NUL, say): it must not keep the others from going on.
      if (batch.length > 1 && !isConnectionError(error)) for (const entry of batch) await this.flush([entry]);
      else for (const entry of batch) entry.reject(error);
    }
  }
}
