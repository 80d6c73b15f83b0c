import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The tables of the plumbing, in every service's schema.
 *
 * m2_effect_begin takes the lock of a step (do and undo share it, so they never run at the same time), then looks at the fence, then
 * for an answer that is on record: in this order, because each statement of the function sees what was committed before it, and
 * so a second copy of a message, waiting for the lock, sees the first one's answer.
 */
export class Plumbing1795000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
    CREATE TABLE m2_fences (operation text PRIMARY KEY, fence bigint NOT NULL, touched_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE m2_effects (
      key text PRIMARY KEY, subject text NOT NULL, reply jsonb NOT NULL, done_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX m2_effects_done_at ON m2_effects (done_at);
    CREATE TABLE m2_outbox (
      sequence bigserial PRIMARY KEY, id uuid NOT NULL UNIQUE, type text NOT NULL, entity text NOT NULL, project uuid,
      traceparent text, data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz);
    CREATE INDEX m2_outbox_waiting ON m2_outbox (sequence) WHERE published_at IS NULL;
    CREATE TABLE m2_inbox (
      consumer text NOT NULL, event_id uuid NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (consumer, event_id));
    CREATE FUNCTION m2_effect_begin(p_key text, p_lock text, p_operation text, p_fence bigint, p_wait_ms int)
      RETURNS TABLE (stale boolean, reply jsonb) LANGUAGE plpgsql AS $$
    DECLARE current bigint;
    BEGIN
      PERFORM set_config('lock_timeout', p_wait_ms::text, true);
      PERFORM pg_advisory_lock(hashtextextended(p_lock, 0));
      SELECT fence INTO current FROM m2_fences WHERE operation = p_operation;
      IF current IS NULL OR current < p_fence THEN
        INSERT INTO m2_fences AS f (operation, fence) VALUES (p_operation, p_fence)
          ON CONFLICT (operation) DO UPDATE SET fence = greatest(f.fence, excluded.fence), touched_at = now()
          RETURNING f.fence INTO current;
      END IF;
      RETURN QUERY SELECT current > p_fence, (SELECT e.reply FROM m2_effects e WHERE e.key = p_key);
    END $$;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION m2_effect_begin; DROP TABLE m2_inbox, m2_outbox, m2_effects, m2_fences');
  }
}

/**
 * Who is at work is a row, not a lock of a connection: a failover loses none of it, and nobody holds a connection while hardware works.
 *
 * A lease belongs to a lifetime in `m2_processes`, and is as good as that (see life.ts). Who takes a name decides by the row as it is then: of two
 * that come at the same time, the second one waits for the first's commit. A process may take again what it has not given back: within it, turns are
 * kept by itself.
 *
 * m2_effect_begin looks at the fence, takes the step (do and undo share it, so they never run at the same time), and then looks for an answer that is
 * on record: in this order, because each statement of the function sees what was committed before it. m2_effect_commit is the end of a command's
 * transaction: the step is given back, and the answer and the events are on record, or, for who has lost the step, nothing is.
 */
export class EffectsAsRows1796000000010 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
    DROP FUNCTION m2_effect_begin;
    CREATE TABLE m2_processes (
      id uuid PRIMARY KEY, instance text NOT NULL, since timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE m2_leases (name text PRIMARY KEY, owner uuid NOT NULL, since timestamptz NOT NULL DEFAULT now());

    CREATE FUNCTION m2_lives(p_process uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
      SELECT EXISTS (SELECT 1 FROM m2_processes p WHERE p.id = p_process AND p.seen_at > now() - interval '15 seconds')
    $$;

    CREATE FUNCTION m2_lease_take(p_name text, p_process uuid) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT m2_lives(p_process) THEN RETURN 'lost'; END IF;
      INSERT INTO m2_leases AS l (name, owner) VALUES (p_name, p_process)
        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, since = now()
        WHERE l.owner = excluded.owner OR NOT m2_lives(l.owner);
      RETURN CASE WHEN FOUND THEN 'ours' ELSE 'held' END;
    END $$;

    CREATE FUNCTION m2_lease_assert(p_name text, p_process uuid) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM 1 FROM m2_leases WHERE name = p_name AND owner = p_process FOR SHARE;
      IF NOT FOUND THEN RAISE EXCEPTION 'the lease on % is lost', p_name USING ERRCODE = 'M2L01'; END IF;
    END $$;

    CREATE FUNCTION m2_effect_begin(p_key text, p_step text, p_operation text, p_fence bigint, p_process uuid)
      RETURNS TABLE (outcome text, reply jsonb) LANGUAGE plpgsql AS $$
    DECLARE current bigint; taking text; answer jsonb;
    BEGIN
      SELECT fence INTO current FROM m2_fences WHERE operation = p_operation;
      IF current IS NULL OR current < p_fence THEN
        INSERT INTO m2_fences AS f (operation, fence) VALUES (p_operation, p_fence)
          ON CONFLICT (operation) DO UPDATE SET fence = greatest(f.fence, excluded.fence), touched_at = now()
          RETURNING f.fence INTO current;
      END IF;
      IF current > p_fence THEN RETURN QUERY SELECT 'stale', NULL::jsonb; RETURN; END IF;
      taking := m2_lease_take(p_step, p_process);
      IF taking = 'ours' THEN
        SELECT e.reply INTO answer FROM m2_effects e WHERE e.key = p_key;
        IF FOUND THEN
          DELETE FROM m2_leases WHERE name = p_step AND owner = p_process;
          taking := 'answered';
        END IF;
      END IF;
      RETURN QUERY SELECT taking, answer;
    END $$;

    CREATE FUNCTION m2_effect_commit(p_key text, p_step text, p_subject text, p_reply jsonb, p_process uuid, p_events jsonb,
      p_traceparent text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      DELETE FROM m2_leases WHERE name = p_step AND owner = p_process;
      IF NOT FOUND THEN RAISE EXCEPTION 'the lease on % is lost', p_step USING ERRCODE = 'M2L01'; END IF;
      INSERT INTO m2_effects (key, subject, reply) VALUES (p_key, p_subject, p_reply);
      INSERT INTO m2_outbox (id, type, entity, project, traceparent, data)
        SELECT v.id, v.type, v.entity, v.project, p_traceparent, v.data
        FROM jsonb_to_recordset(p_events) AS v(id uuid, type text, entity text, project uuid, data jsonb);
    END $$;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP FUNCTION m2_effect_commit;
      DROP FUNCTION m2_effect_begin;
      DROP FUNCTION m2_lease_assert;
      DROP FUNCTION m2_lease_take;
      DROP FUNCTION m2_lives;
      DROP TABLE m2_leases;
      DROP TABLE m2_processes;`);
  }
}

/**
 * PostgreSQL 15 plans an SQL function that cannot be inlined at each call of it, and keeps the plan of a PL/pgSQL function for as long as the
 * session lives: m2_lives is called at the beginning of every command.
 */
export class PlannedOnce1799000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
    CREATE OR REPLACE FUNCTION m2_lives(p_process uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN
      RETURN EXISTS (SELECT 1 FROM m2_processes p WHERE p.id = p_process AND p.seen_at > now() - interval '15 seconds');
    END $$;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
    CREATE OR REPLACE FUNCTION m2_lives(p_process uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
      SELECT EXISTS (SELECT 1 FROM m2_processes p WHERE p.id = p_process AND p.seen_at > now() - interval '15 seconds')
    $$;`);
  }
}

/**
 * m2_effect_begin looks at the fence once more when it has the step: whoever brought a newer one may have taken the step and given it back since
 * the first look. From here on a newer one finds the step held.
 */
export class FenceOfTheHolder1799500000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
    CREATE OR REPLACE FUNCTION m2_effect_begin(p_key text, p_step text, p_operation text, p_fence bigint, p_process uuid)
      RETURNS TABLE (outcome text, reply jsonb) LANGUAGE plpgsql AS $$
    DECLARE current bigint; taking text; answer jsonb;
    BEGIN
      SELECT fence INTO current FROM m2_fences WHERE operation = p_operation;
      IF current IS NULL OR current < p_fence THEN
        INSERT INTO m2_fences AS f (operation, fence) VALUES (p_operation, p_fence)
          ON CONFLICT (operation) DO UPDATE SET fence = greatest(f.fence, excluded.fence), touched_at = now()
          RETURNING f.fence INTO current;
      END IF;
      IF current > p_fence THEN RETURN QUERY SELECT 'stale', NULL::jsonb; RETURN; END IF;
      taking := m2_lease_take(p_step, p_process);
      IF taking = 'ours' THEN
        IF EXISTS (SELECT FROM m2_fences f WHERE f.operation = p_operation AND f.fence > p_fence) THEN
          taking := 'stale';
        ELSE
          SELECT e.reply INTO answer FROM m2_effects e WHERE e.key = p_key;
          IF FOUND THEN taking := 'answered'; END IF;
        END IF;
        IF taking <> 'ours' THEN DELETE FROM m2_leases WHERE name = p_step AND owner = p_process; END IF;
      END IF;
      RETURN QUERY SELECT taking, answer;
    END $$;`);
  }

  /** It may stay: it answers as the one before it. */
  async down(): Promise<void> {}
}

/** The oldest rows are found by an index. */
export class Retention1798000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX m2_fences_touched_at ON m2_fences (touched_at);
      CREATE INDEX m2_inbox_received_at ON m2_inbox (received_at);
      CREATE INDEX m2_outbox_published_at ON m2_outbox (published_at) WHERE published_at IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX m2_fences_touched_at, m2_inbox_received_at, m2_outbox_published_at');
  }
}

/** Turns as rows (see turns.ts), and a place for events that nothing can be done with. */
export class TurnsAndParkedEvents1797000000020 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
    CREATE TABLE IF NOT EXISTS m2_turns (name text PRIMARY KEY);
    CREATE TABLE m2_parked_events (
      consumer text NOT NULL, id uuid NOT NULL, type text NOT NULL, project uuid, entity text NOT NULL, time timestamptz NOT NULL,
      traceparent text, data jsonb NOT NULL, tries int NOT NULL, error text NOT NULL, parked_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (consumer, id));`);
  }

  async down(runner: QueryRunner): Promise<void> {
    // The turn of who migrates is held meanwhile: its table stays.
    await runner.query('DROP TABLE m2_parked_events');
  }
}
