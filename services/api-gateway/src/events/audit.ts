import { type AuditEvent, M2Error } from '@m2/contracts';
import { type Kit, KIT, meter, type ReceivedEvent, type Sql, takeTurn } from '@m2/service-kit';
import { Runner } from '@m2/saga';
import { Inject, Injectable } from '@nestjs/common';
import { EventTail, type Place } from './event-tail.js';

interface Row {
  id: string;
  sequence: string;
  type: string;
  project: string | null;
  time: Date;
  traceparent: string | null;
  data: Record<string, unknown>;
}

export interface EventFilter {
  projects: string[] | 'all';
  type?: string | undefined;
  cursor?: string | undefined;
  limit: number;
}

/** Told to all replicas when one has taken events in. */
const arrivals = { subject: 'm2.live.events' };
/** The rows are visible when the transaction that takes them in has ended; a follower that looks too early looks again. */
const visibleAfterMs = 20;

/** Keeps every event of every service, in the order in which the stream had it, for those who audit. */
@Injectable()
export class Audit {
  private readonly tail: EventTail;
  private telling: NodeJS.Timeout | undefined;

  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {
    this.tail = new EventTail({
      last: () => this.last(),
      after: (sequence, limit) => this.read({ projects: 'all', cursor: sequence, limit }),
      listen: (onEvents) => {
        const subscription = kit.bus.connection.subscribe(arrivals.subject, { callback: onEvents });
        return { stop: () => subscription.unsubscribe() };
      },
      onError: (err) => kit.log.warn({ err }, 'new events cannot be read for now'),
    });
    meter()
      .createObservableGauge('m2_event_followers', { description: 'Who follows the events, in this process' })
      .addCallback((result) => result.observe(this.followers));
  }

  /** How many are at the tail now; who reads what it missed is not. */
  get followers(): number {
    return this.tail.followers;
  }

  /** Keeps them in the transaction that takes them in. */
  async receive(events: ReceivedEvent[], sql: Sql): Promise<void> {
    // Replicas take turns: else one could commit a lower sequence after a higher one, and a follower would have passed it by.
    await takeTurn(sql, 'events');
    await sql.query(
      `INSERT INTO events (id, type, project, time, traceparent, data)
       SELECT id, type, project, time, traceparent, data
       FROM jsonb_to_recordset($1::jsonb) AS e(id uuid, type text, project uuid, time timestamptz, traceparent text, data jsonb)
       ON CONFLICT (id) DO NOTHING`,
      [JSON.stringify(events)],
    );
    const concerned = events.flatMap(({ data }) => [data['provision'], data['id']]);
    this.runner.somethingHappened(concerned.filter((id) => typeof id === 'string'));
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      this.kit.bus.tell(arrivals, {});
    }, visibleAfterMs).unref();
  }

  async list(filter: EventFilter): Promise<{ items: AuditEvent[]; next?: string }> {
    const events = await this.read({ ...filter, limit: filter.limit + 1 });
    const items = events.slice(0, filter.limit);
    return events.length > filter.limit ? { items, next: items.at(-1)!.sequence } : { items };
  }

  /**
   * What comes after `cursor`, or from now on, until the signal. Who does not keep up is not waited for: it reads from the database what it
   * missed. Throws M2Error `request.invalid`.
   */
  async follow(filter: EventFilter, signal: AbortSignal): Promise<AsyncIterable<AuditEvent>> {
    const cursor = filter.cursor === undefined ? undefined : readCursor(filter.cursor);
    if (cursor !== undefined) await this.refuseAhead(cursor);
    const place = await this.join(filter, signal);
    return this.following({ ...filter, cursor: cursor ?? place.from }, place, signal);
  }

  private async *following(filter: EventFilter, first: Place, signal: AbortSignal): AsyncGenerator<AuditEvent> {
    let cursor = filter.cursor as string;
    for (let place = first; !signal.aborted; place = await this.join(filter, signal)) {
      try {
        while (BigInt(cursor) < BigInt(place.from)) {
          const missed = await this.read({ ...filter, cursor }, place.from);
          yield* missed;
          cursor = missed.length === filter.limit ? missed.at(-1)!.sequence : place.from;
        }
        for (let events = await place.next(); events; events = await place.next()) yield* events;
        // A cursor of somebody who is ahead of us stays where it is.
        if (BigInt(place.seen) > BigInt(cursor)) cursor = place.seen;
      } finally {
        place.leave();
      }
    }
  }

  /** A place that is left when the signal says so, also by a follower that never came to read. */
  private async join(filter: EventFilter, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    const place = await this.tail.join(filterOf(filter));
    if (signal.aborted) place.leave();
    else signal.addEventListener('abort', () => place.leave(), { once: true });
    return place;
  }

  private async read(filter: EventFilter, until?: string): Promise<AuditEvent[]> {
    const rows = await this.kit.database.search<Row>(
      `SELECT * FROM events WHERE sequence > $1 AND ($2::uuid[] IS NULL OR project = ANY($2)) AND ($3::text IS NULL OR type LIKE $3)
         AND ($5::bigint IS NULL OR sequence <= $5)
       ORDER BY sequence LIMIT $4`,
      [
        readCursor(filter.cursor),
        filter.projects === 'all' ? null : filter.projects,
        filter.type && pattern(filter.type),
        filter.limit,
        until ?? null,
      ],
    );
    return rows.map(toEvent);
  }

  /** A place that no event has reached is of another database, or of a time before a backup: nothing would be told until they meet. */
  private async refuseAhead(cursor: string): Promise<void> {
    // Not the newest row: retention may have deleted it.
    const [row] = await this.kit.database.query<{ newest: string }>(
      'SELECT last_value AS newest FROM events_sequence_seq',
    );
    if (BigInt(cursor) <= BigInt(row!.newest)) return;
    throw new M2Error(
      'request.invalid',
      `cursor or Last-Event-ID: no event has come as far as ${cursor}; it is not of this M2, or M2 went back to a backup. Leave it out, and look at the list for what was missed`,
    );
  }

  private async last(): Promise<string> {
    const [row] = await this.kit.database.query<{ last: string }>(
      'SELECT coalesce(max(sequence), 0) AS last FROM events',
    );
    return String(row!.last);
  }
}

/** The same as the statement does it, for an event that was read already. */
function filterOf({ projects, type }: EventFilter): (event: AuditEvent) => boolean {
  const prefix = type?.endsWith('*') ? type.slice(0, -1) : undefined;
  return (event) =>
    (projects === 'all' || (event.project !== null && projects.includes(event.project))) &&
    (type === undefined || (prefix === undefined ? event.type === type : event.type.startsWith(prefix)));
}

/** `image.*` is a prefix; anything else is the whole type. */
const pattern = (type: string) => type.replaceAll(/[%_\\]/g, '\\$&').replace(/\*$/, '%');

/** Throws M2Error `request.invalid` for what is not the sequence of an event. */
export function readCursor(cursor: string | undefined): string {
  if (cursor === undefined) return '0';
  if (!/^\d{1,18}$/.test(cursor))
    throw new M2Error('request.invalid', 'cursor or Last-Event-ID: is not the sequence of an event');
  return cursor;
}

const toEvent = (row: Row): AuditEvent => ({
  id: row.id,
  sequence: String(row.sequence),
  type: row.type,
  project: row.project,
  time: row.time.toISOString(),
  traceparent: row.traceparent,
  data: row.data,
});
