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
