import { serviceNames } from '@m2/contracts';
import { eventually, type Scene } from './scene.js';
import { sql } from './things.js';

interface Written {
  id: string;
  type: string;
}

const outboxes = serviceNames.map((name) => `SELECT id, type, data FROM m2_${name}.m2_outbox`).join(' UNION ALL ');

/** How often each type of event was recorded (about any of `ids`), as the services wrote it in the same transaction as the change. */
export async function happened(scene: Scene, ids: string[] = ['']): Promise<Record<string, number>> {
  const about = ids.map((id) => `data::text LIKE '%${id}%'`).join(' OR ');
  const query = `SELECT coalesce(json_object_agg(type, n), '{}') FROM (
    SELECT type, count(*) AS n FROM (${outboxes}) o WHERE (${about}) AND type NOT LIKE 'gateway.%' GROUP BY type) t`;
  return sql(scene, query);
}

export const once = (...types: string[]): Record<string, number> => Object.fromEntries(types.map((type) => [type, 1]));

/** All events that were recorded, and all that the API shows once the stream has delivered them. */
export async function toldAndWritten(scene: Scene): Promise<{ written: string[]; told: string[] }> {
  const written = await sql<Written[]>(scene, `SELECT coalesce(json_agg(o), '[]') FROM (${outboxes}) o`);
  const told = await eventually('all events at the API', async () => {
    const { items } = await scene.client.list('eventList');
    return items.length >= written.length ? items : undefined;
  });
  const names = (list: Written[]) => list.map(({ id, type }) => `${type} ${id}`).sort();
  return { written: names(written), told: names(told) };
}
