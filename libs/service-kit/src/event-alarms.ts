import type { Database } from './database.js';
import type { Alarm } from './ops-server.js';
import { meter } from './telemetry.js';

/** JetStream may be away for a moment, or a server of it may restart. */
const lateSeconds = 60;

/**
 * What is told of events that do not get on. Whether JetStream is there is nobody's question: nothing needs it. That events wait for long is
 * what a person has to know, whatever the reason.
 */
export function eventAlarms(database: Database): Alarm[] {
  const oldest = async () => {
    const [row] = await database.query<{ seconds: number }>(
      `SELECT extract(epoch FROM now() - created_at)::float8 AS seconds FROM m2_outbox WHERE published_at IS NULL
       ORDER BY sequence LIMIT 1`,
    );
    return row?.seconds ?? 0;
  };
  const parked = async () => {
    const [row] = await database.query<{ parked: number; types: string[] | null }>(
      'SELECT count(*)::int AS parked, array_agg(DISTINCT type) AS types FROM m2_parked_events',
    );
    return { count: row?.parked ?? 0, types: row?.types ?? [] };
  };
  meter()
    .createObservableGauge('m2_outbox_oldest_seconds', {
      description: 'How long the oldest event has waited for the stream',
      unit: 's',
    })
    .addCallback(async (result) => result.observe(await oldest()));
  meter()
    .createObservableGauge('m2_parked_events', { description: 'Events that were given up for now' })
    .addCallback(async (result) => result.observe((await parked()).count));
  return [
    {
      name: 'events',
      check: async () => {
        const seconds = Math.round(await oldest());
        return seconds > lateSeconds ? `events have waited for ${seconds} s to be told` : undefined;
      },
    },
    {
      name: 'parked events',
      check: async () => {
        const { count, types } = await parked();
        return count > 0 ? `${count} events were given up for now (${types.join(', ')}): see the log` : undefined;
      },
    },
  ];
}
