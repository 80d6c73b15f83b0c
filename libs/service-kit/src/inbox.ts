import { eventStream, events, type EventContract, fields, M2Error } from '@m2/contracts';
import { AckPolicy, type ConsumerMessages, DeliverPolicy, jetstreamManager, type JsMsg } from '@nats-io/jetstream';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import type { Bus } from './bus.js';
import { translated, type Database, type Sql } from './database.js';
import { ensureEventStream, type StreamLimits } from './event-stream.js';
import type { Logger } from './log.js';
import { park, parkedOf, unpark } from './parked-events.js';
import type { ReceivedEvent } from './received-event.js';

/** Works on new events in the transaction that records them as received: both happen, or neither. */
export type EventHandler = (events: ReceivedEvent[], sql: Sql) => Promise<void>;

export interface Subscription {
  /** Name of the durable consumer; replicas that share it share its events. */
  durable: string;
  /** One event, or all of them. */
  of: EventContract | 'all';
}

export const subjectOf = ({ of }: Subscription): string => (of === 'all' ? 'm2.evt.>' : of.subject);

const maxBatch = 500;
/** Events that come so soon after the first one are taken in with it. */
const lingerMs = 20;
/** While events come all the time, batches are at least this far apart. */
const betweenMs = 100;
const againMs = 1_000;
/**
 * How long the server keeps a request for events that are not there. It is alive as long as something comes every half of it: when another server
 * leads the consumer now, that is noticed after this time. nats.js would take 30 s.
 */
const expiresMs = 10_000;
/** An event whose handler failed this often, for no reason that goes away by itself, is parked. */
const maxTries = 5;

/** A durable pull consumer: takes what has come, in one transaction, then acknowledges it. */
export class EventConsumer {
  private messages: ConsumerMessages | undefined;
  private waiting: JsMsg[] = [];
  private working: Promise<void> | undefined;
  private workedAt = -Infinity;
  private stopped = false;
  private loop: Promise<void> | undefined;
  /** For events whose handler failed: how often. */
  private readonly tries = new Map<string, number>();

  constructor(
    private readonly bus: Bus,
    private readonly database: Database,
    private readonly log: Logger,
    private readonly subscription: Subscription,
    private readonly handler: EventHandler,
    /** Of the one service that may make the stream; the others wait for it. */
    private readonly limits: StreamLimits | undefined,
  ) {}

  start(): void {
    this.loop = this.run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.messages?.stop();
    await this.loop;
    await this.working;
  }

  /** The stream may not exist yet, NATS may be away, hang, or have lost its state: tries again, for ever. */
  private async run(): Promise<void> {
    await this.tryParked().catch((error: unknown) => {
      this.log.warn({ err: error, durable: this.subscription.durable }, 'parked events could not be tried again');
    });
    while (!this.stopped) {
      try {
        if (this.limits)
          await ensureEventStream(this.bus, this.limits, (err) =>
            this.log.error({ err }, 'the limits of the event stream could not be changed'),
          );
        await this.ensureConsumer();
        const consumer = await this.bus.js.consumers.get(eventStream, this.subscription.durable);
        this.messages = await consumer.consume({
          max_messages: maxBatch,
          expires: expiresMs,
          // The server may come back without its state: then consumer and stream are created again.
          abort_on_missing_resource: true,
          callback: (message) => {
            this.waiting.push(message);
            this.wake();
          },
        });
        // `stop` may have been called while the consumer was being created: then it had nothing to stop.
        if (this.stopped) this.messages.stop();
        await this.messages.closed();
      } catch (error) {
        if (!this.stopped)
          this.log.warn({ err: error, durable: this.subscription.durable }, 'events are not consumed for now');
      }
      if (!this.stopped) await pause(500);
    }
  }

  private async ensureConsumer(): Promise<void> {
    const manager = await jetstreamManager(this.bus.connection, { checkAPI: false });
    await manager.consumers.add(eventStream, {
      durable_name: this.subscription.durable,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      filter_subject: subjectOf(this.subscription),
      ack_wait: 30 * 1e9,
      max_ack_pending: 4 * maxBatch,
    });
  }

  private wake(): void {
    this.working ??= this.linger().finally(() => {
      this.working = undefined;
      // Messages that came after the loop looked for the last time.
      if (this.waiting.length > 0) this.wake();
    });
  }

  private async linger(): Promise<void> {
    await pause(Math.max(lingerMs, this.workedAt + betweenMs - performance.now()));
    await this.work();
    this.workedAt = performance.now();
  }

  private async work(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, maxBatch).map((message) => ({ message, event: this.read(message) }));
      if (batch.length === 1) await this.workAlone(batch[0]!);
      else await this.workTogether(batch);
    }
  }

  private async workTogether(batch: Delivery[]): Promise<void> {
    try {
      await this.receive(batch.flatMap(({ event }) => event ?? []));
      for (const { message } of batch) message.ack();
    } catch (error) {
      if (passes(error)) this.postpone(batch, error);
      // One of them may be what fails all.
      else for (const one of batch) await this.workAlone(one);
    }
  }

  private async workAlone({ message, event }: Delivery): Promise<void> {
    try {
      if (event) await this.receive([event]);
      if (event) this.tries.delete(event.id);
      message.ack();
    } catch (error) {
      if (!event || passes(error)) return this.postpone([{ message, event }], error);
      const tries = (this.tries.get(event.id) ?? 0) + 1;
      this.tries.set(event.id, tries);
      if (tries < maxTries) return this.postpone([{ message, event }], error);
      await this.park({ message, event }, tries, error);
    }
  }

  private postpone(batch: Delivery[], error: unknown): void {
    this.log.warn({ err: error, durable: this.subscription.durable }, 'events will be delivered again');
    for (const { message } of batch) message.nak(againMs);
  }

  private async park({ message, event }: Delivery, tries: number, error: unknown): Promise<void> {
    const line = { err: error, durable: this.subscription.durable, event: event?.id, type: event?.type };
    try {
      if (event) await this.keepParked(event, tries, error);
      if (event) this.tries.delete(event.id);
      message.ack();
      this.log.error(line, 'an event is parked: nothing could be done with it');
    } catch (failure) {
      this.postpone([{ message, event }], failure);
    }
  }

  /** What PostgreSQL cannot even put aside (it has NUL in a text, say) is put aside without its data. */
  private async keepParked(event: ReceivedEvent, tries: number, error: unknown): Promise<void> {
    const { durable } = this.subscription;
    try {
      await park(this.database, durable, event, tries, error);
    } catch (failure) {
      if (passes(failure)) throw failure;
      await park(this.database, durable, { ...event, data: {} }, tries, failure);
    }
  }

  /** A corrected program may do what its predecessor could not, and know what that did not. */
  private async tryParked(): Promise<void> {
    const { durable } = this.subscription;
    for (const event of await parkedOf(this.database, durable)) {
      if (!ofCatalogue(event)) continue;
      try {
        await this.receive([event]);
        await unpark(this.database, durable, event.id);
        this.log.info({ durable, event: event.id, type: event.type }, 'a parked event was taken in');
      } catch (error) {
        await park(this.database, durable, event, 1, error);
      }
    }
  }

  private read(message: JsMsg): ReceivedEvent | undefined {
    const event = parse(message);
    if (!event) this.log.warn({ subject: message.subject }, 'a message is no event, and is dropped');
    return event;
  }

  private async receive(received: ReceivedEvent[]): Promise<void> {
    const events = received.flatMap((event) => ofCatalogue(event) ?? []);
    const strange = events.length < received.length ? received.filter((event) => !ofCatalogue(event)) : [];
    if (received.length === 0) return;
    const { durable } = this.subscription;
    await this.database.transaction(async (sql) => {
      for (const event of strange) {
        this.log.warn({ durable, event: event.id, type: event.type }, 'an event that is not known here is parked');
        await park(sql, durable, event, 1, 'this version does not know such an event');
      }
      if (events.length === 0) return;
      const fresh = await sql.query<{ event_id: string }>(
        `INSERT INTO m2_inbox (consumer, event_id) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING RETURNING event_id`,
        [durable, events.map((event) => event.id)],
      );
      const ids = new Set(fresh.map((row) => row.event_id));
      // A batch may hold the same event twice; the first takes it.
      const todo = events.filter((event) => ids.delete(event.id));
      if (todo.length > 0) await this.handler(todo, sql);
    });
  }
}

interface Delivery {
  message: JsMsg;
  /** Undefined: it is none. */
  event: ReceivedEvent | undefined;
}

/** Whether it is no fault of the event: what is away comes back. */
function passes(error: unknown): boolean {
  const { retry } = M2Error.from(translated(error));
  return retry === 'transient' || retry === 'absent';
}

const known = new Map(events.map((event) => [event.type, event]));

/** Values that PostgreSQL would refuse are dropped here: there, they would fail their whole batch, again and again. */
const cloudEvent = z.object({
  id: fields.id,
  type: fields.text,
  time: fields.time,
  project: fields.id.nullable(),
  entity: fields.text,
  traceparent: fields.text.nullable(),
  data: z.record(z.string(), z.unknown()),
});

/** Subjects of events begin so; the rest is the type. */
const prefix = 'm2.evt.';

/**
 * Undefined for a message that is not a CloudEvent: it is acknowledged and dropped. Its type is its subject, which the server lets only the owner of
 * the event publish to; a header could say anything.
 */
function parse(message: JsMsg): ReceivedEvent | undefined {
  const header = (name: string) => message.headers?.get(name) || null;
  const event = cloudEvent.safeParse({
    id: header('ce-id'),
    type: message.subject.slice(prefix.length),
    time: header('ce-time'),
    project: header('ce-project'),
    entity: header('ce-subject') ?? '',
    traceparent: header('ce-traceparent'),
    data: safeJson(message),
  });
  return event.data;
}

/**
 * The event as the catalogue has it. Undefined when it has it not, or otherwise: a replica of the next version may have told it, and what is dropped
 * here would never be on record.
 */
function ofCatalogue(event: ReceivedEvent): ReceivedEvent | undefined {
  const data = known.get(event.type)?.data.safeParse(event.data);
  return data?.success ? { ...event, data: data.data as Record<string, unknown> } : undefined;
}

function safeJson(message: JsMsg): unknown {
  try {
    return message.json();
  } catch {
    return undefined;
  }
}
