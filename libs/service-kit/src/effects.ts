import { type DataOf, type EventContract, M2Error, type Call } from '@m2/contracts';
import { channel } from 'node:diagnostics_channel';
import { v7 as uuidv7 } from 'uuid';
import type { Database, Session, Sql } from './database.js';
import { currentTraceparent } from './telemetry.js';

export interface EventMeta {
  /** What the event is about; events of one entity reach the stream in the order in which they were committed. */
  entity: string;
  project: string | null;
}

/** An answer needs this time to be recorded and to travel on a busy machine. */
const answerMs = 500;

/** Puts an event into the outbox of the transaction that it belongs to. */
export type Emit = <E extends EventContract>(event: E, data: DataOf<E>, meta: EventMeta) => void;

/**
 * `{ subject, effect, phase }` of every command: `begin` before the handler acts, `acted` when it is about to commit, `committed` when
 * it has and nothing else was done since, `end` when the handler has returned and nobody has the answer yet. For those who observe a
 * process from inside, and cheap when nobody does.
 */
const commandChannel = channel('m2:command');

interface Pending {
  id: string;
  type: string;
  entity: string;
  project: string | null;
  data: unknown;
}

/**
 * Runs `work` in a transaction together with the events that it emits and, for an effect, with its result under the effect's key.
 */
export async function withEvents<T>(
  session: Session,
  work: (sql: Sql, emit: Emit) => Promise<T>,
  effect?: { key: string; subject: string },
): Promise<{ result: T; emitted: number }> {
  const pending: Pending[] = [];
  const emit: Emit = (event, data, meta) => {
    pending.push({
      id: uuidv7(),
      type: event.type,
      entity: meta.entity,
      project: meta.project,
      data: event.data.parse(data),
    });
  };
  const result = await session.transaction(async (sql) => {
    const value = await work(sql, emit);
    if (effect) await record(sql, pending, { ...effect, reply: value });
    else if (pending.length > 0) await writeOutbox(sql, pending);
    return value;
  });
  return { result, emitted: pending.length };
}

const insertEvents = `
  INSERT INTO m2_outbox (id, type, entity, project, traceparent, data)
  SELECT v.id, v.type, v.entity, v.project, $2, v.data
  FROM jsonb_to_recordset($1::jsonb) AS v(id uuid, type text, entity text, project uuid, data jsonb)`;

const writeOutbox = (sql: Sql, pending: Pending[]) =>
  sql.query(insertEvents, [JSON.stringify(pending), currentTraceparent() ?? null]);

/** Both in one statement: it is on the way of every command. */
const record = (
  sql: Sql,
  pending: Pending[],
  { key, subject, reply }: { key: string; subject: string; reply: unknown },
) =>
  sql.query(`WITH effect AS (INSERT INTO m2_effects (key, subject, reply) VALUES ($3, $4, $5)) ${insertEvents}`, [
    JSON.stringify(pending),
    currentTraceparent() ?? null,
    key,
    subject,
    JSON.stringify(reply),
  ]);

/**
 * One run of a command. The kit made sure, before the handler sees it, that the message is in time, that its fence is the newest,
 * that it has no answer on record yet, and that no other message of the same step is at work in any replica.
 *
 * A handler works in this order: `transaction` records what is about to be made (so that a crash leaves a row, not an orphan), then it
 * acts on the hardware, looking before it acts; then `commit` writes the end state, the events and the answer at once. A crash
 * at any point is followed by the same message again, which finds what is there and goes on.
 *
 * So a handler acts on nothing before it has asked its effect something. What it throws until then, or in its first transaction, touched
 * nothing: it is a refusal (`M2Error.refused`).
 */
export class Effect implements Sql {
  private committed = false;
  private begun = false;

  constructor(
    private readonly session: Session,
    private readonly call: Call,
    readonly key: string,
    /** The moment of `performance.now()` after which nobody waits for the answer. */
    private readonly deadline: number,
    private readonly onEvents: () => void,
  ) {}

  /** Whether the handler may have acted. */
  get hasBegun(): boolean {
    return this.begun;
  }

  /** Milliseconds that are left, never less than 1. A little less than the asker waits: what went wrong is to be told, not guessed. */
  get remainingMs(): number {
    return Math.max(1, this.deadline - answerMs - performance.now());
  }

  /** Reads on the effect's own connection: a handler that asks the pool for another one may wait for its like for ever. */
  query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    this.begun = true;
    return this.session.query<Row>(text, values);
  }

  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.session.transaction((sql) => this.unlessRefused(() => work(sql)));
  }

  /** What fails inside the transaction is taken back. When the COMMIT fails, nobody knows. */
  private async unlessRefused<T>(work: () => Promise<T>): Promise<T> {
    const result = await work();
    this.begun = true;
    return result;
  }

  async commit<T>(work: (sql: Sql, emit: Emit) => Promise<T>): Promise<T> {
    if (this.committed) throw new Error(`${this.call.subject} commits twice`);
    commandChannel.publish({ subject: this.call.subject, effect: this.key, phase: 'acted' });
    const { result, emitted } = await withEvents(
      this.session,
      (sql, emit) => this.unlessRefused(() => work(sql, emit)),
      { key: this.key, subject: this.call.subject },
    );
    commandChannel.publish({ subject: this.call.subject, effect: this.key, phase: 'committed' });
    this.committed = true;
    if (emitted > 0) this.onEvents();
    return result;
  }

  assertCommitted(): void {
    if (!this.committed) throw new Error(`The handler of ${this.call.subject} returned without committing its effect`);
  }
}

export interface EffectHeaders {
  key: string;
  fence: number;
  /** The moment of `performance.now()` after which nobody waits for the answer. */
  deadline: number;
}

/** Runs a command's handler as an `Effect`, or answers from the record. Throws M2Error `fence.stale`, `request.deadline`. */
export async function runEffect<T>(
  database: Database,
  call: Call,
  { key, fence, deadline }: EffectHeaders,
  onEvents: () => void,
  handler: (effect: Effect) => Promise<T>,
): Promise<T> {
  const lock = key.replace(/\/(do|undo|skip)$/, '');
  const operation = key.split('/')[0] as string;
  const session = await database.session();
  let locked = false;
  try {
    const [begun] = await session
      .query<{ stale: boolean; reply: T | null }>('SELECT * FROM m2_effect_begin($1, $2, $3, $4, $5)', [
        key,
        lock,
        operation === 'direct' ? key : operation,
        fence,
        Math.max(1, Math.ceil(deadline - performance.now())),
      ])
      .catch((error: unknown) => {
        // 55P03: another message of this step is still at work.
        if ((error as { code?: string }).code !== '55P03') throw error;
        throw new M2Error('request.deadline', `${call.subject} is still at work on an earlier request`);
      });
    locked = true;
    if (!begun) throw new Error('m2_effect_begin answered nothing');
    if (begun.stale) throw new M2Error('fence.stale', `${key} came with fence ${fence}, and a newer one was seen`);
    if (begun.reply !== null) return begun.reply;
    const effect = new Effect(session, call, key, deadline, onEvents);
    commandChannel.publish({ subject: call.subject, effect: key, phase: 'begin' });
    const result = await handler(effect).catch((error: unknown) => {
      if (error instanceof M2Error && error.retry === 'final' && !effect.hasBegun) error.refused = true;
      throw error;
    });
    effect.assertCommitted();
    commandChannel.publish({ subject: call.subject, effect: key, phase: 'end' });
    return result;
  } finally {
    // Nobody waits for it: the answer is on record. What comes next for this step waits for the lock by itself.
    void giveBack(session, locked ? lock : undefined);
  }
}

/** Closing the connection is what surely gives a lock back that cannot be given back by name. */
async function giveBack(session: Session, lock: string | undefined): Promise<void> {
  try {
    if (!lock) throw new Error('it is not known whether the lock was taken');
    await session.query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [lock]);
    session.release();
  } catch {
    session.release(true);
  }
}
