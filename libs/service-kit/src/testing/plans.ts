import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import type { EventEmitter } from 'node:events';
import type { Database } from '../database.js';
import { until } from './until.js';

/**
 * Asks often enough on each connection that PostgreSQL may plan what is prepared for all values, which it does after five times (PostgreSQL manual,
 * PREPARE): such a plan may be another one than those for the first values.
 */
export async function askedOften(ask: () => Promise<unknown>): Promise<void> {
  for (let time = 0; time < 8; time++) await ask();
}

/** As much of pg's pool as is needed here. */
interface Pool extends EventEmitter {
  _idle: { client: { processID?: number | null } }[];
}

/** One table, as one statement read it. */
export interface Scan {
  table: string;
  /** How PostgreSQL read it, e.g. `Seq Scan` or `Index Scan`. */
  how: string;
  /** Rows that it looked at, whether or not they were wanted. */
  rows: number;
  statement: string;
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  Plans?: PlanNode[];
}

/**
 * What PostgreSQL reads for each statement of a service from here on, told by its own `auto_explain`, with rows that it really looked at.
 * Call it when the tables are filled: their statistics are made here. The service gets new connections, so nothing of it may be under way.
 */
export async function watchPlans(database: Database): Promise<{ scans(): Scan[]; forget(): void }> {
  const scans: Scan[] = [];
  const pool = (database.orm.driver as PostgresDriver).master as Pool;
  pool.on('connect', (client: EventEmitter) =>
    client.on('notice', ({ message = '' }: { message?: string }) => {
      const at = message.indexOf('plan:');
      if (at < 0) return;
      const plan = JSON.parse(message.slice(at + 5)) as { 'Query Text': string; Plan: PlanNode };
      scans.push(...scansOf(plan.Plan, plan['Query Text']));
    }),
  );
  await database.query('VACUUM ANALYZE');
  const settings = {
    session_preload_libraries: 'auto_explain',
    'auto_explain.log_min_duration': '0',
    'auto_explain.log_analyze': 'on',
    'auto_explain.log_timing': 'off',
    'auto_explain.log_format': 'json',
    'auto_explain.log_level': 'notice',
    'auto_explain.log_nested_statements': 'on',
  };
  for (const [name, value] of Object.entries(settings))
    await database.query(
      `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ${name} = %L', current_database(), '${value}'); END $$`,
    );
  await database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
  );
  // This one's own connection goes last.
  await database.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {});
  await until('the pool has forgotten its old connections', async () => {
    const living = await database.query<{ pid: number }>('SELECT pid FROM pg_stat_activity').catch(() => []);
    const pids = new Set(living.map(({ pid }) => pid));
    // oxlint-disable-next-line no-underscore-dangle -- pg-pool tells of its idle clients in no other way
    return pids.size > 0 && pool._idle.every(({ client }) => pids.has(client.processID ?? 0));
  });
  return { scans: () => scans, forget: () => void scans.splice(0) };
}

const scansOf = (node: PlanNode, statement: string): Scan[] => [
  ...(node['Relation Name'] && node['Node Type'].endsWith('Scan')
    ? [
        {
          table: node['Relation Name'],
          how: node['Node Type'],
          rows: Math.round(
            node['Actual Loops'] *
              (node['Actual Rows'] +
                (node['Rows Removed by Filter'] ?? 0) +
                (node['Rows Removed by Index Recheck'] ?? 0)),
          ),
          statement: statement.replaceAll(/\s+/g, ' ').trim(),
        },
      ]
    : []),
  ...(node.Plans ?? []).flatMap((child) => scansOf(child, statement)),
];
