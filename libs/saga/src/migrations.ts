import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What the engine needs beside the tables of operations and their steps, which are older than it is.
 *
 * An operation from before is of version 1, the only one that there was, and its steps have names and no graph. `saga_runners` says which
 * runners live and which sagas each knows.
 */
export class Saga1796000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE operations
        ADD COLUMN version int NOT NULL DEFAULT 1, ADD COLUMN not_before timestamptz, ADD COLUMN takeovers int NOT NULL DEFAULT 0;
      ALTER TABLE operation_steps
        ADD COLUMN after text[], ADD COLUMN undo_started_at timestamptz, ADD COLUMN undo_ended_at timestamptz, ADD COLUMN skipped jsonb;
      CREATE TABLE saga_runners (
        id uuid PRIMARY KEY, knows text[] NOT NULL, since timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now());
      CREATE INDEX operations_open ON operations (project, id) WHERE state IN ('running', 'undoing');`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX operations_open;
      DROP TABLE saga_runners;
      ALTER TABLE operation_steps DROP COLUMN after, DROP COLUMN undo_started_at, DROP COLUMN undo_ended_at, DROP COLUMN skipped;
      ALTER TABLE operations DROP COLUMN version, DROP COLUMN not_before, DROP COLUMN takeovers;`);
  }
}

/** What a step says while the service that it needs is not there; a person may then leave the step out, or abandon the operation. */
export class SagaAbsence1797000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE operation_steps ADD COLUMN absent text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE operation_steps DROP COLUMN absent');
  }
}

/** The requests by which people decided: one that is repeated decides nothing again. */
export class SagaDecisions1797100000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE operations ADD COLUMN decisions uuid[] NOT NULL DEFAULT '{}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE operations DROP COLUMN decisions');
  }
}

/** Lists of operations by state and kind, and the oldest ended ones, without a look at all others. Few operations do not succeed. */
export class SagaIndexes1798000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX operations_by_state ON operations (state, id DESC) WHERE state <> 'succeeded';
      CREATE INDEX operations_by_project_state ON operations (project, state, id DESC) WHERE state <> 'succeeded';
      CREATE INDEX operations_by_kind ON operations (kind, id DESC);
      CREATE INDEX operations_by_project_kind ON operations (project, kind, id DESC);
      CREATE INDEX operations_not_ended ON operations (project) WHERE ended_at IS NULL;
      CREATE INDEX operations_ended ON operations (ended_at) WHERE ended_at IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX operations_by_state, operations_by_project_state, operations_by_kind, operations_by_project_kind, operations_not_ended,
        operations_ended`);
  }
}
