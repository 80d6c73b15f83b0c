import type { Sql } from '@m2/service-kit';

/** A project that has half of everything. */
export const bigProject = '00000000-0000-7000-8000-000000000001';

/**
 * What a gateway has after years: ended operations with their steps, provisions, events, keys and tokens. One in a hundred operations failed,
 * and a few of one kind or waiting for a person lie far back among the others. `scale` 1 is 300,000 operations.
 */
export async function fillGateway(sql: Sql, scale: number): Promise<void> {
  const count = Math.round(300_000 * scale);
  await sql.query(
    `INSERT INTO projects (id, name)
     SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'filled-' || n FROM generate_series(1, 1000) n`,
  );
  const project = `('00000000-0000-7000-8000-' || lpad((CASE WHEN n % 2 = 0 THEN 1 ELSE n % 1000 + 1 END)::text, 12, '0'))::uuid`;
  const at = `now() - interval '1 day' - ($1 - n) * interval '1 second'`;
  const id = (what: string) => `('00000000-0000-70${what}-8000-' || lpad(n::text, 12, '0'))::uuid`;
  const operations = `
    INSERT INTO operations (id, project, kind, version, state, input, about, created_by, token, created_at, started_at, ended_at, attention)
    SELECT ${id('01')}, ${project},
      CASE WHEN n < 20 THEN 'image.export' ELSE (ARRAY['provision', 'deprovision', 'disk.create', 'disk.delete'])[n % 4 + 1] END, 1,
      CASE WHEN n BETWEEN 20 AND 23 THEN 'needs_attention' WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END,
      '{"disk": "x"}', '{"disk": "web-1"}', 'fill', ${id('01')}, ${at}, ${at},
      CASE WHEN n NOT BETWEEN 20 AND 23 THEN ${at} END, CASE WHEN n BETWEEN 20 AND 23 THEN 'A person has to look' END
    FROM generate_series(1, $1::int) n`;
  await sql.query(operations, [count]);
  await sql.query(
    `INSERT INTO operation_steps (operation, position, name, state, attempts, started_at, ended_at, reply)
     SELECT ${id('01')}, step, 'step-' || step, 'done', 1, ${at}, ${at}, '{}'
     FROM generate_series(1, $1::int) n, generate_series(1, 3) step`,
    [count],
  );
  await sql.query(
    `INSERT INTO provisions (id, project, node, node_name, nic, network, disk, disk_name, export, boot_config, state, operation, created_at,
       ended_at)
     SELECT ${id('02')}, ${project}, ${id('03')}, 'node-' || n, 'eth0', 'flat', ${id('04')}, 'disk-' || n, ${id('05')}, ${id('06')},
       CASE WHEN n % 100 = 7 THEN 'ready' ELSE 'ended' END, ${id('01')}, ${at}, CASE WHEN n % 100 <> 7 THEN ${at} END
     FROM generate_series(1, $1::int) n`,
    [Math.round(count / 3)],
  );
  await sql.query(
    `INSERT INTO events (id, type, project, time, data)
     SELECT ${id('07')}, CASE WHEN n < 20 THEN 'boot.config.refused' ELSE (ARRAY['gateway.operation.started', 'image.disk.created',
       'iscsi.export.created', 'gateway.operation.ended'])[n % 4 + 1] END, ${project}, ${at}, '{"id": "x"}'
     FROM generate_series(1, $1::int) n`,
    [count],
  );
  await sql.query(
    `INSERT INTO idempotency_keys (token, key, use_case, request_hash, id, lease_until, created_at, ended_at)
     SELECT ${id('08')}, 'key-' || n, 'diskCreate', '', ${id('09')}, now(), now() - interval '1 day', now()
     FROM generate_series(1, $1::int) n`,
    [Math.round(count / 10)],
  );
  await sql.query(
    `INSERT INTO tokens (id, name, role, project, hash, revoked_at)
     SELECT ${id('0a')}, 'token-' || n, 'member', ${project}, sha256(n::text::bytea), CASE WHEN n % 20 > 0 THEN now() END
     FROM generate_series(1, $1::int) n`,
    [Math.round(count / 30)],
  );
}
