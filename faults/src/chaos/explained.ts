import { serviceNames } from '@m2/contracts';
import type { TestInstallation } from '../installation.js';
import { sql } from '../observed-state.js';

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const volume = /\bm[0-9a-f]{8}img\d+\b/g;
const mostNames = 20;
const mostLines = 60;

const events = serviceNames
  .map(
    (name) =>
      `SELECT created_at AS at, type || ' ' || data::text AS what FROM m2_${name}.m2_outbox WHERE data::text ~ :names AND type NOT LIKE 'gateway.operation.%'`,
  )
  .join(' UNION ALL ');

/**
 * What M2 has on record of everything that the sentences name, by identifier or volume, in the order of time: operations with their steps, and
 * events. So that who reads that something is wrong sees what made it so.
 */
export async function explained(installation: TestInstallation, wrong: string[]): Promise<string[]> {
  const said = wrong.join('\n');
  // Everything is of a project.
  const projects = await sql<string[]>(installation, `SELECT json_agg(id) FROM m2_gateway.projects`);
  const names = [...new Set([...said.matchAll(uuid), ...said.matchAll(volume)].map(([name]) => name))].filter(
    (name) => !projects.includes(name),
  );
  if (names.length === 0) return [];
  const query = `SELECT coalesce(json_agg(at::time(3) || '  ' || what ORDER BY at), '[]') FROM (
    SELECT o.created_at AS at, o.kind || ' ' || o.id || ' ' || o.state || ' (fence ' || o.fence || ') ' || o.about::text
      || coalesce(' ' || (o.error->>'code'), '')
      || coalesce((SELECT string_agg(e' \\n                ' || s.name || ' ' || s.state || coalesce(' ' || s.started_at::time(3), '')
        || coalesce('-' || s.ended_at::time(3), '') || ' attempts ' || s.attempts, '' ORDER BY s.position)
        FROM m2_gateway.operation_steps s WHERE s.operation = o.id), '') AS what
    FROM m2_gateway.operations o WHERE o.id::text ~ :names OR o.about::text ~ :names OR o.input::text ~ :names
    UNION ALL ${events}) t`;
  const found = await sql<string[]>(
    installation,
    query.replaceAll(':names', `'${names.slice(0, mostNames).join('|')}'`),
  );
  const left = found.length - mostLines;
  return ['What is on record of it:', ...found.slice(-mostLines), ...(left > 0 ? [`(and ${left} before that)`] : [])];
}
