import type { AuditEvent } from '@m2/contracts';
import { type Kit, KIT, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { EventEmitter, on } from 'node:events';
import { M2Error } from '@m2/contracts';
import { Runner } from '@m2/saga';

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

/** Keeps every event of every service, in the order in which the stream had it, for those who audit. */
@Injectable()
export class Audit {
  private readonly arrivals = new EventEmitter().setMaxListeners(0);

  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(Runner) private readonly runner: Runner,
  ) {}

  /** Keeps them in the transaction that takes them in. */
  async receive(events: ReceivedEvent[], sql: Sql): Promise<void> {
    // Replicas take turns: else one could commit a lower sequence after a higher one, and a follower would have passed it by.
    await sql.query(`SELECT pg_advisory_xact_lock(hashtextextended('m2 events ' || current_schema(), 0))`);
    await sql.query(
      `INSERT INTO events (id, type, project, time, traceparent, data)
       SELECT id, type, project, time, traceparent, data
       FROM jsonb_to_recordset($1::jsonb) AS e(id uuid, type text, project uuid, time timestamptz, traceparent text, data jsonb)
       ON CONFLICT (id) DO NOTHING`,
      [JSON.stringify(events)],
    );
    const concerned = events.flatMap(({ data }) => [data['provision'], data['id']]);
    this.runner.somethingHappened(concerned.filter((id) => typeof id === 'string'));
    // The rows are visible after the commit; a follower that looks too early looks again.
    setTimeout(() => this.arrivals.emit('events'), 20).unref();
  }

  async list(filter: EventFilter): Promise<{ items: AuditEvent[]; next?: string }> {
    const rows = await this.kit.database.query<Row>(
      `SELECT * FROM events WHERE sequence > $1 AND ($2::uuid[] IS NULL OR project = ANY($2)) AND ($3::text IS NULL OR type LIKE $3)
       ORDER BY sequence LIMIT $4`,
      [
        readCursor(filter.cursor),
        filter.projects === 'all' ? null : filter.projects,
        filter.type && pattern(filter.type),
        filter.limit + 1,
      ],
    );
    const items = rows.slice(0, filter.limit).map(toEvent);
    return rows.length > filter.limit ? { items, next: items.at(-1)!.sequence } : { items };
  }

  /** What comes after `cursor`, or from now on, until the signal. */
  async *follow(filter: EventFilter, signal: AbortSignal): AsyncGenerator<AuditEvent> {
    let cursor = filter.cursor ?? (await this.last());
    const tick = setInterval(() => this.arrivals.emit('events'), 1_000);
    const arrivals = on(this.arrivals, 'events', { signal });
    try {
      for (;;) {
        const page = await this.list({ ...filter, cursor });
        yield* page.items;
        cursor = page.items.at(-1)?.sequence ?? cursor;
        if (!page.next) await arrivals.next();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearInterval(tick);
    }
  }

  private async last(): Promise<string> {
    const [row] = await this.kit.database.query<{ last: string }>(
      'SELECT coalesce(max(sequence), 0) AS last FROM events',
    );
    return row!.last;
  }
}

/** `image.*` is a prefix; anything else is the whole type. */
const pattern = (type: string) => type.replaceAll(/[%_\\]/g, '\\$&').replace(/\*$/, '%');

/** Throws M2Error `request.invalid` for what is not the sequence of an event. */
export function readCursor(cursor: string | undefined): string {
  if (cursor === undefined) return '0';
  if (!/^\d{1,18}$/.test(cursor)) throw new M2Error('request.invalid', 'query.cursor: is not a cursor of this list');
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
