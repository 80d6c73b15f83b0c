import { eventStream, events, type EventContract, fields } from '@m2/contracts';
import {
  AckPolicy,
  type ConsumerMessages,
  DeliverPolicy,
  jetstreamManager,
  type JsMsg,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import type { Bus } from './bus.js';
import type { Database, Sql } from './database.js';
import type { Logger } from './log.js';

export interface ReceivedEvent {
  id: string;
  type: string;
  time: string;
  project: string | null;
  entity: string;
  traceparent: string | null;
  data: Record<string, unknown>;
}

/** Works on new events in the transaction that records them as received: both happen, or neither. */
export type EventHandler = (events: ReceivedEvent[], sql: Sql) => Promise<void>;

export interface Subscription {
  /** Name of the durable consumer; replicas that share it share its events. */
  durable: string;
  /** One event, or all of them. */
  of: EventContract | 'all';
}

export const subjectOf = ({ of }: Subscription): string => (of === 'all' ? 'm2.evt.>' : of.subject);

/** Creates the stream, unless it exists. It holds events on their way; the outboxes are the truth. */
export async function ensureEventStream(bus: Bus): Promise<void> {
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  const config = {
    name: eventStream,
    subjects: ['m2.evt.>'],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    max_age: 7 * 24 * 3600 * 1e9,
    duplicate_window: 10 * 60 * 1e9,
  };
  try {
    await manager.streams.info(eventStream);
  } catch {
    await manager.streams.add(config);
  }
}

const maxBatch = 500;
/** Events that come so soon after the first one are taken in with it. */
const lingerMs = 20;

/** A durable pull consumer: takes what has come, in one transaction, then acknowledges it. */
export class EventConsumer {
  private messages: ConsumerMessages | undefined;
  private waiting: JsMsg[] = [];
  private working: Promise<void> | undefined;
  private stopped = false;
  private loop: Promise<void> | undefined;

  constructor(
    private readonly bus: Bus,
    private readonly database: Database,
    private readonly log: Logger,
    private readonly subscription: Subscription,
    private readonly handler: EventHandler,
    /** Only the gateway may create the stream; the others wait for it. */
    private readonly makesStream: boolean,
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

  /** The stream may not exist yet, NATS may be away or may have lost its state: tries again, for ever. */
  private async run(): Promise<void> {
    while (!this.stopped) {
      try {
        if (this.makesStream) await ensureEventStream(this.bus);
        await this.ensureConsumer();
        const consumer = await this.bus.js.consumers.get(eventStream, this.subscription.durable);
        this.messages = await consumer.consume({
          max_messages: maxBatch,
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
    await pause(lingerMs);
    await this.work();
  }

  private async work(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, maxBatch);
      try {
        await this.receive(batch.map(parse).filter((event) => event !== undefined));
        for (const message of batch) message.ack();
      } catch (error) {
        this.log.warn({ err: error, durable: this.subscription.durable }, 'events will be delivered again');
        for (const message of batch) message.nak(1_000);
      }
    }
  }

  private async receive(received: ReceivedEvent[]): Promise<void> {
    if (received.length === 0) return;
    await this.database.transaction(async (sql) => {
      const fresh = await sql.query<{ event_id: string }>(
        `INSERT INTO m2_inbox (consumer, event_id) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING RETURNING event_id`,
        [this.subscription.durable, received.map((event) => event.id)],
      );
      const ids = new Set(fresh.map((row) => row.event_id));
      // A batch may hold the same event twice; the first takes it.
      const todo = received.filter((event) => ids.delete(event.id));
      if (todo.length > 0) await this.handler(todo, sql);
    });
  }
}

const known = new Map(events.map((event) => [event.type, event]));

/** Values that PostgreSQL would refuse are dropped here: there, they would fail their whole batch, again and again. */
const cloudEvent = z.object({
  id: fields.id,
  type: z.string(),
  time: fields.time,
  project: fields.id.nullable(),
  entity: fields.text,
  traceparent: fields.text.nullable(),
});

/** Undefined for a message that is not a CloudEvent of the catalogue: it is acknowledged and dropped. */
function parse(message: JsMsg): ReceivedEvent | undefined {
  const header = (name: string) => message.headers?.get(name) || null;
  const attributes = cloudEvent.safeParse({
    id: header('ce-id'),
    type: header('ce-type'),
    time: header('ce-time'),
    project: header('ce-project'),
    entity: header('ce-subject') ?? '',
    traceparent: header('ce-traceparent'),
  });
  if (!attributes.success) return undefined;
  const data = known.get(attributes.data.type)?.data.safeParse(safeJson(message));
  if (!data?.success) return undefined;
  return { ...attributes.data, data: data.data as Record<string, unknown> };
}

function safeJson(message: JsMsg): unknown {
  try {
    return message.json();
  } catch {
    return undefined;
  }
}
