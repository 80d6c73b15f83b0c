import { eventStream } from '@m2/contracts';
import { headers } from '@nats-io/transport-node';
import type { Bus } from './bus.js';
import type { Database, Sql } from './database.js';
import type { Logger } from './log.js';
import { park } from './parked-events.js';
import { Periodic } from './periodic.js';
import { tryTurn } from './turns.js';

interface Row {
  sequence: string;
  id: string;
  type: string;
  entity: string;
  project: string | null;
  traceparent: string | null;
  data: unknown;
  created_at: Date;
}

const batchSize = 200;
/** The server counts them with the payload. */
const roomForHeaders = 4_096;
/** How often the relay looks for events that could not be published, or that another replica left behind. */
const sweepMs = 1_000;

/**
 * Carries the outbox to JetStream, in order per entity, and marks a row only after the stream's acknowledgement. One replica of a service
 * relays at a time (two would overtake each other); the turn goes with its transaction, so a dead relay blocks nobody.
 * Delivery is at least once: `Nats-Msg-Id` lets the stream drop a repetition, the inbox of the consumer drops the rest.
 */
export class OutboxRelay {
  private readonly rounds: Periodic;

  constructor(
    private readonly database: Database,
    private readonly bus: Bus,
    private readonly log: Logger,
    private readonly source: string,
  ) {
    this.rounds = new Periodic({
      everyMs: sweepMs,
      work: (signal) => this.drain(signal),
      onError: (err) => log.warn({ err }, 'events wait in the outbox'),
    });
  }

  start(): void {
    this.rounds.start();
    this.rounds.wake();
  }

  /** Called after a commit that wrote events. */
  wake = (): void => this.rounds.wake();

  stop(): Promise<void> {
    return this.rounds.stop();
  }

  private async drain(signal: AbortSignal): Promise<void> {
    while ((await this.relayBatch()) === batchSize && !signal.aborted);
  }

  /** Returns how many were published: less than a batch also when the server refused some, so that it is not asked again at once. */
  private async relayBatch(): Promise<number> {
    // Otherwise each event would run into its own timeout, inside the transaction.
    if (this.bus.isAway) return 0;
    // A turn is written down: not for a look that finds nothing.
    const waiting = await this.database.query('SELECT FROM m2_outbox WHERE published_at IS NULL LIMIT 1');
    if (waiting.length === 0) return 0;
    return this.database.transaction(async (sql) => {
      if (!(await tryTurn(sql, 'outbox'))) return 0;
      const rows = await sql.query<Row>(
        'SELECT * FROM m2_outbox WHERE published_at IS NULL ORDER BY sequence LIMIT $1',
        [batchSize],
      );
      return this.publish(sql, await this.parkTooLarge(sql, rows));
    });
  }

  /** What no server would take must not stand before what it would. Returns the rest. */
  private async parkTooLarge(sql: Sql, rows: Row[]): Promise<Row[]> {
    const room = this.bus.maxPayload - roomForHeaders;
    const tooLarge = rows.filter(({ data }) => Buffer.byteLength(JSON.stringify(data)) > room);
    for (const row of tooLarge) {
      this.log.error({ event: row.id, type: row.type }, 'an event is too large for the stream, and is given up');
      const { created_at, ...event } = row;
      const received = { ...event, time: created_at.toISOString(), data: row.data as Record<string, unknown> };
      await park(sql, 'outbox', received, 1, `larger than the ${room} bytes that NATS takes`);
      await sql.query('UPDATE m2_outbox SET published_at = now() WHERE sequence = $1', [row.sequence]);
    }
    return rows.filter((row) => !tooLarge.includes(row));
  }

  private async publish(sql: Sql, rows: Row[]): Promise<number> {
    const byEntity = new Map<string, Row[]>();
    for (const row of rows) byEntity.set(row.entity, [...(byEntity.get(row.entity) ?? []), row]);
    const published: string[] = [];
    // Entities side by side; within one, an event goes out only after the one before it is safe in the stream.
    const outcomes = await Promise.allSettled(
      [...byEntity.values()].map(async (ofEntity) => {
        for (const row of ofEntity) {
          await this.publishOne(row);
          published.push(row.sequence);
        }
      }),
    );
    if (published.length > 0)
      await sql.query('UPDATE m2_outbox SET published_at = now() WHERE sequence = ANY($1)', [published]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed)
      this.log.warn({ err: failed.reason, left: rows.length - published.length }, 'events wait in the outbox');
    return published.length;
  }

  /** CloudEvents 1.0, NATS protocol binding, binary mode. */
  private async publishOne(row: Row): Promise<void> {
    const meta = headers();
    meta.set('ce-specversion', '1.0');
    meta.set('ce-id', row.id);
    meta.set('ce-source', `/m2/${this.source}`);
    meta.set('ce-type', row.type);
    meta.set('ce-time', row.created_at.toISOString());
    meta.set('ce-subject', row.entity);
    if (row.project) meta.set('ce-project', row.project);
    if (row.traceparent) meta.set('ce-traceparent', row.traceparent);
    meta.set('content-type', 'application/json');
    await this.bus.js.publish(`m2.evt.${row.type}`, JSON.stringify(row.data), {
      msgID: row.id,
      headers: meta,
      timeout: 5_000,
      expect: { streamName: eventStream },
    });
  }
}
