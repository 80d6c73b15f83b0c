import { serviceNames } from '@m2/contracts';
import { eventually, type TestInstallation } from './installation.js';
import { sql } from './observed-state.js';

interface Written {
  id: string;
  type: string;
}

const outboxes = serviceNames.map((name) => `SELECT id, type, data FROM m2_${name}.m2_outbox`).join(' UNION ALL ');

/** How often each type of event was recorded (about any of `ids`), as the services wrote it in the same transaction as the change. */
export async function happened(installation: TestInstallation, ids: string[] = ['']): Promise<Record<string, number>> {
  const about = ids.map((id) => `data::text LIKE '%${id}%'`).join(' OR ');
  const query = `SELECT coalesce(json_object_agg(type, n), '{}') FROM (
    SELECT type, count(*) AS n FROM (${outboxes}) o WHERE (${about}) AND type NOT LIKE 'gateway.%' GROUP BY type) t`;
  return sql(installation, query);
}

export const once = (...types: string[]): Record<string, number> => Object.fromEntries(types.map((type) => [type, 1]));

/** All events that were recorded, and all that the API shows once the stream has delivered them. */
export async function toldAndWritten(installation: TestInstallation): Promise<{ written: string[]; told: string[] }> {
  const written = await sql<Written[]>(installation, `SELECT coalesce(json_agg(o), '[]') FROM (${outboxes}) o`);
  const told = await eventually('all events at the API', async () => {
    const { items } = await installation.client.list('eventList');
    return items.length >= written.length ? items : undefined;
  });
  const names = (list: Written[]) => list.map(({ id, type }) => `${type} ${id}`).sort();
  return { written: names(written), told: names(told) };
}
