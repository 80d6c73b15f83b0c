import { eventStream } from '@m2/contracts';
import { headers, type MsgHdrs } from '@nats-io/transport-node';
import type { Bus } from './bus.js';
import type { Database } from './database.js';
import type { Leases } from './leases.js';
import type { Logger } from './log.js';
import { park } from './parked-events.js';
import { Periodic } from './periodic.js';

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
/** Events that are committed so soon after the first one go with it. */
const lingerMs = 20;
/** The server counts them with the payload: what is between them, and what JetStream is told. */
const roomForHeaders = 4_096;
/** How often the relay looks for events that could not be published, or that another replica left behind. */
const sweepMs = 1_000;

/**
 * Carries the outbox to JetStream, in order per entity, and marks a row only after the stream's acknowledgement. One replica of a service
 * relays at a time (two would overtake each other), as long as it has something to do. Delivery is at least once: `Nats-Msg-Id` lets the stream drop
 * a repetition, also that of a replica which stood still and was replaced; the inbox of the consumer drops the rest.
 */
export class OutboxRelay {
  private readonly rounds: Periodic;
  private lingering: NodeJS.Timeout | undefined;
  /** It is known that events wait; else they are looked for first. */
  private woken = true;
  /** Ends the wait for more of a relay that has the turn. */
  private more = () => {};

  constructor(
    private readonly database: Database,
    private readonly leases: Leases,
    private readonly bus: Bus,
    private readonly log: Logger,
    private readonly source: string,
  ) {
    this.rounds = new Periodic({
      everyMs: sweepMs,
      work: (signal) => this.round(signal),
      onError: (err) => log.warn({ err }, 'events wait in the outbox'),
    });
  }

  start(): void {
    this.rounds.start();
    this.rounds.wake();
  }

  /** Called after a commit that wrote events. */
  wake = (): void => {
    this.woken = true;
    this.lingering ??= setTimeout(() => {
      this.lingering = undefined;
      this.more();
      this.rounds.wake();
    }, lingerMs);
  };

  async stop(): Promise<void> {
    clearTimeout(this.lingering);
    const stopped = this.rounds.stop();
    this.more();
    await stopped;
  }

  private async round(stopping: AbortSignal): Promise<void> {
    // Otherwise each event would run into its own timeout.
    if (this.bus.isAway || (!this.woken && !(await this.doesAnyWait()))) return;
    await this.leases.tryHold('outbox', async ({ signal }) => {
      do {
        this.woken = false;
        while ((await this.relayBatch(signal)) === batchSize && !stopping.aborted);
      } while ((await this.untilMore(stopping)) && !this.bus.isAway);
    });
  }

  private async doesAnyWait(): Promise<boolean> {
    const rows = await this.database.query('SELECT 1 FROM m2_outbox WHERE published_at IS NULL LIMIT 1');
    return rows.length > 0;
  }

  /** Whether events come before the next sweep. */
  private async untilMore(stopping: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.more = resolve;
    const sweep = setTimeout(resolve, sweepMs);
    if (!stopping.aborted) await promise;
    clearTimeout(sweep);
    this.more = () => {};
    return this.woken && !stopping.aborted;
  }

  /** Returns how many were published: less than a batch also when the server refused some, so that it is not asked again at once. */
  private async relayBatch(lost: AbortSignal): Promise<number> {
    lost.throwIfAborted();
    const rows = await this.database.query<Row>(
      'SELECT * FROM m2_outbox WHERE published_at IS NULL ORDER BY sequence LIMIT $1',
      [batchSize],
    );
    return rows.length > 0 ? this.publish(await this.parkUnsendable(rows), lost) : 0;
  }

  /** What no message can carry must not stand before what one can. Returns the rest. */
  private async parkUnsendable(rows: Row[]): Promise<Row[]> {
    const rest: Row[] = [];
    for (const row of rows) {
      const problem = this.problemOf(row);
      if (!problem) {
        rest.push(row);
        continue;
      }
      this.log.error({ event: row.id, type: row.type, problem }, 'no message can carry an event, and it is given up');
      const { created_at, ...event } = row;
      const received = { ...event, time: created_at.toISOString(), data: row.data as Record<string, unknown> };
      await this.database.transaction(async (sql) => {
        await park(sql, 'outbox', received, 1, problem);
        await sql.query('UPDATE m2_outbox SET published_at = now() WHERE sequence = $1', [row.sequence]);
      });
    }
    return rest;
  }

  private problemOf(row: Row): string | undefined {
    try {
      const { headers, payload } = messageOf(row, this.source);
      const bytes = [...headers].reduce(
        (sum, part) => sum + Buffer.byteLength(String(part)),
        Buffer.byteLength(payload),
      );
      const room = this.bus.maxPayload - roomForHeaders;
      return bytes > room ? `larger than the ${room} bytes that NATS takes` : undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  private async publish(rows: Row[], lost: AbortSignal): Promise<number> {
    const byEntity = new Map<string, Row[]>();
    for (const row of rows) byEntity.set(row.entity, [...(byEntity.get(row.entity) ?? []), row]);
    const published: string[] = [];
    // Entities side by side; within one, an event goes out only after the one before it is safe in the stream.
    const outcomes = await Promise.allSettled(
      [...byEntity.values()].map(async (ofEntity) => {
        for (const row of ofEntity) {
          lost.throwIfAborted();
          await this.publishOne(row);
          published.push(row.sequence);
        }
      }),
    );
    if (published.length > 0)
      // Not `= ANY($1)`, which PostgreSQL plans anew for each list.
      await this.database.query(
        'UPDATE m2_outbox SET published_at = now() WHERE sequence IN (SELECT unnest($1::bigint[]))',
        [published],
      );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed)
      this.log.warn({ err: failed.reason, left: rows.length - published.length }, 'events wait in the outbox');
    return published.length;
  }

  private async publishOne(row: Row): Promise<void> {
    const { headers, payload } = messageOf(row, this.source);
    await this.bus.js.publish(`m2.evt.${row.type}`, payload, {
      msgID: row.id,
      headers,
      timeout: 5_000,
      expect: { streamName: eventStream },
    });
  }
}

/** CloudEvents 1.0, NATS protocol binding, binary mode. Throws where a header cannot hold what it is to say. */
function messageOf(row: Row, source: string): { headers: MsgHdrs; payload: string } {
  const meta = headers();
  meta.set('ce-specversion', '1.0');
  meta.set('ce-id', row.id);
  meta.set('ce-source', `/m2/${source}`);
  meta.set('ce-type', row.type);
  meta.set('ce-time', row.created_at.toISOString());
  meta.set('ce-subject', row.entity);
  if (row.project) meta.set('ce-project', row.project);
  if (row.traceparent) meta.set('ce-traceparent', row.traceparent);
  meta.set('content-type', 'application/json');
  return { headers: meta, payload: JSON.stringify(row.data) };
}
