import { type DataOf, type EventContract, M2Error, type Call } from '@m2/contracts';
import { channel } from 'node:diagnostics_channel';
import pLimit from 'p-limit';
import { v7 as uuidv7 } from 'uuid';
import type { Database, Sql, Statement } from './database.js';
import type { Leases } from './leases.js';
import type { Lifetime } from './life.js';
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

/** Runs `work` in a transaction that ends with the events that it emits; or with what `last` makes of them. */
export async function withEvents<T>(
  database: Database,
  work: (sql: Sql, emit: Emit) => Promise<T>,
  last: (events: Pending[], result: T) => Statement | undefined = outbox,
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
  const result = await database.transaction((sql) => work(sql, emit), {
    closing: (value) => last(pending, value),
  });
  return { result, emitted: pending.length };
}

const outbox = (pending: Pending[]): Statement | undefined =>
  pending.length === 0
    ? undefined
    : {
        text: `INSERT INTO m2_outbox (id, type, entity, project, traceparent, data)
          SELECT v.id, v.type, v.entity, v.project, $2, v.data
          FROM jsonb_to_recordset($1::jsonb) AS v(id uuid, type text, entity text, project uuid, data jsonb)`,
        values: [JSON.stringify(pending), currentTraceparent() ?? null],
      };

/** What an effect is of: the names under which it is on record, and how long somebody waits for it. */
export interface EffectOrder {
  call: Call;
  key: string;
  fence: number;
  /** The moment of `performance.now()` after which nobody waits for the answer. */
  deadline: number;
}

/** Where an effect runs. */
interface Surroundings {
  database: Database;
  /** The step that is held, and by which lifetime of this process. */
  step: string;
  lifetime: Lifetime;
  /** Lets a transaction begin when there is a connection for it. */
  room: <T>(work: () => Promise<T>) => Promise<T>;
  onEvents: () => void;
}

/**
 * One run of a command. The kit made sure, before the handler sees it, that the message is in time, that its fence is the newest,
 * that it has no answer on record yet, and that no other message of the same step is at work in any replica.
 *
 * A handler works in this order: `transaction` records what is about to be made (so that a crash leaves a row, not an orphan), then it
 * acts on the hardware, looking before it acts; then `commit` writes the end state, the events and the answer at once. A crash
 * at any point is followed by the same message again, which finds what is there and goes on.
 *
 * It holds no connection while the hardware works. When this process was silent for too long, another one may have taken the step over: from then
 * on every method throws LeaseLost, and `signal` is aborted.
 *
 * A handler acts on nothing before it has asked its effect something. What it throws until then, or in its first transaction, touched
 * nothing: it is a refusal (`M2Error.refused`).
 */
export class Effect implements Sql {
  private committed = false;
  private begun = false;
  /** The transaction under way. */
  private open: Sql | undefined;

  constructor(
    private readonly order: EffectOrder,
    private readonly at: Surroundings,
  ) {}

  get key(): string {
    return this.order.key;
  }

  /** Whether the handler may have acted. */
  get hasBegun(): boolean {
    return this.begun;
  }

  /** Aborts when the step is not ours any more, with a LeaseLost: a driver that works for long looks at it. */
  get signal(): AbortSignal {
    return this.at.lifetime.signal;
  }

  /** Milliseconds that are left, never less than 1. A little less than the asker waits: what went wrong is to be told, not guessed. */
  get remainingMs(): number {
    return Math.max(1, this.order.deadline - answerMs - performance.now());
  }

  /** On a connection of the pool, for this statement only; during a transaction of the effect, in that. */
  async query<Row extends object>(text: string, values?: unknown[]): Promise<Row[]> {
    this.at.lifetime.assert();
    this.begun ||= !this.open;
    return (this.open ?? this.at.database).query<Row>(text, values);
  }

  async transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    const { database, step, lifetime, room } = this.at;
    const opening = { text: 'SELECT m2_lease_assert($1, $2)', values: [step, lifetime.id] };
    return room(async () => {
      lifetime.assert();
      return database.transaction((sql) => this.within(sql, () => work(sql)), { opening });
    });
  }

  async commit<T>(work: (sql: Sql, emit: Emit) => Promise<T>): Promise<T> {
    const { database, lifetime, room, onEvents } = this.at;
    const { subject } = this.order.call;
    if (this.committed) throw new Error(`${subject} commits twice`);
    commandChannel.publish({ subject, effect: this.key, phase: 'acted' });
    const { result, emitted } = await room(async () => {
      lifetime.assert();
      return withEvents(
        database,
        (sql, emit) => this.within(sql, () => work(sql, emit)),
        (events, reply) => this.record(events, reply),
      );
    });
    commandChannel.publish({ subject, effect: this.key, phase: 'committed' });
    this.committed = true;
    if (emitted > 0) onEvents();
    return result;
  }

  /** With the commit, the step was given back. */
  get isCommitted(): boolean {
    return this.committed;
  }

  /** What fails inside the transaction is taken back. When the COMMIT fails, nobody knows. */
  private async within<T>(sql: Sql, work: () => Promise<T>): Promise<T> {
    const before = this.open;
    this.open = sql;
    try {
      const result = await work();
      this.begun = true;
      return result;
    } finally {
      this.open = before;
    }
  }

  private record(events: Pending[], reply: unknown): Statement {
    const { step, lifetime } = this.at;
    const { key, call } = this.order;
    return {
      text: 'SELECT m2_effect_commit($1, $2, $3, $4, $5, $6, $7)',
      values: [
        key,
        step,
        call.subject,
        JSON.stringify(reply),
        lifetime.id,
        JSON.stringify(events),
        currentTraceparent() ?? null,
      ],
    };
  }
}

/** Connections that no command's transaction may take: what a handler asks within one, on another connection, must find one. */
const connectionsForTheRest = 5;

interface Begun {
  outcome: 'ours' | 'held' | 'lost' | 'stale' | 'answered';
  reply: unknown;
}

/** Carries out commands, each once. */
export class Effects {
  private readonly room: Surroundings['room'];

  constructor(
    private readonly database: Database,
    private readonly leases: Leases,
    poolSize: number,
    /** Events wait in the outbox. */
    private readonly onEvents: () => void,
  ) {
    this.room = pLimit(Math.max(1, poolSize - connectionsForTheRest));
  }

  /** Runs a command's handler, or answers from the record. Throws M2Error `fence.stale`, `request.deadline`, and LeaseLost. */
  run<T>(order: EffectOrder, handler: (effect: Effect) => Promise<T>): Promise<T> {
    const { call, key, deadline } = order;
    const step = key.replace(/\/(do|undo|skip)$/, '');
    return this.leases.inTurn(
      step,
      () => expiring(deadline, `${call.subject} is still at work on an earlier request`),
      (lifetime) => this.begin(order, step, lifetime),
      async ({ outcome, reply }, lifetime) => {
        if (outcome === 'stale')
          throw new M2Error('fence.stale', `${key} came with fence ${order.fence}, and a newer one was seen`);
        if (outcome === 'answered') return reply as T;
        return this.carryOut(order, { step, lifetime }, handler);
      },
    );
  }

  private async begin({ key, fence }: EffectOrder, step: string, lifetime: Lifetime): Promise<Begun> {
    const operation = key.split('/')[0] as string;
    const [begun] = await this.database.query<Begun>('SELECT * FROM m2_effect_begin($1, $2, $3, $4, $5)', [
      key,
      step,
      operation === 'direct' ? key : operation,
      fence,
      lifetime.id,
    ]);
    return begun!;
  }

  private async carryOut<T>(
    order: EffectOrder,
    { step, lifetime }: Pick<Surroundings, 'step' | 'lifetime'>,
    handler: (effect: Effect) => Promise<T>,
  ): Promise<T> {
    const { database, room, onEvents } = this;
    const { subject } = order.call;
    const effect = new Effect(order, { database, step, lifetime, room, onEvents });
    try {
      commandChannel.publish({ subject, effect: order.key, phase: 'begin' });
      const result = await handler(effect);
      if (!effect.isCommitted) throw new Error(`The handler of ${subject} returned without committing its effect`);
      commandChannel.publish({ subject, effect: order.key, phase: 'end' });
      return result;
    } catch (error) {
      // A driver that was stopped says so in its own words.
      lifetime.signal.throwIfAborted();
      if (error instanceof M2Error && error.retry === 'final' && !effect.hasBegun) error.refused = true;
      throw error;
    } finally {
      if (!effect.isCommitted) await this.leases.giveBack(step, lifetime);
    }
  }
}

/** Aborts at the deadline, with M2Error `request.deadline`. */
function expiring(deadline: number, why: string): AbortSignal {
  const patience = new AbortController();
  const leftMs = Math.max(1, deadline - performance.now());
  setTimeout(() => patience.abort(new M2Error('request.deadline', why)), leftMs).unref();
  return patience.signal;
}
