import {
  Saga1796000000000,
  SagaAbsence1797000000000,
  SagaDecisions1797100000000,
  SagaIndexes1798000000000,
} from '@m2/saga';
import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Gateway1795000000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE projects (
        id uuid PRIMARY KEY, name text NOT NULL CONSTRAINT projects_name UNIQUE, created_at timestamptz NOT NULL DEFAULT now());

      CREATE TABLE tokens (
        id uuid PRIMARY KEY, name text NOT NULL, role text NOT NULL, project uuid REFERENCES projects ON DELETE CASCADE,
        hash bytea NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now(), revoked_at timestamptz);

      CREATE TABLE operations (
        id uuid PRIMARY KEY, project uuid NOT NULL, kind text NOT NULL, state text NOT NULL,
        input jsonb NOT NULL, about jsonb NOT NULL, created_by text NOT NULL, token uuid NOT NULL, traceparent text,
        idempotency_key text, request_hash bytea,
        -- the lease of the runner, and the number that makes a runner whose lease ran out harmless
        fence bigint NOT NULL DEFAULT 0, runner text, lease_until timestamptz,
        cancel_requested boolean NOT NULL DEFAULT false, undoing boolean NOT NULL DEFAULT false,
        error jsonb, attention text,
        created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz,
        CONSTRAINT operations_idempotency UNIQUE (token, idempotency_key));
      CREATE INDEX operations_waiting ON operations (lease_until NULLS FIRST) WHERE state IN ('running', 'undoing');
      CREATE INDEX operations_by_project ON operations (project, id DESC);

      CREATE TABLE operation_steps (
        operation uuid NOT NULL REFERENCES operations ON DELETE CASCADE, position int NOT NULL, name text NOT NULL,
        state text NOT NULL DEFAULT 'waiting', attempts int NOT NULL DEFAULT 0,
        started_at timestamptz, ended_at timestamptz, reply jsonb, error jsonb, progress jsonb,
        PRIMARY KEY (operation, name));

      CREATE TABLE provisions (
        id uuid PRIMARY KEY, project uuid NOT NULL REFERENCES projects, node uuid NOT NULL, node_name text NOT NULL, nic text NOT NULL,
        network text NOT NULL, disk uuid NOT NULL, disk_name text NOT NULL, image uuid, export uuid NOT NULL, boot_config uuid NOT NULL,
        state text NOT NULL, operation uuid NOT NULL, report jsonb,
        created_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz);
      -- one node and one disk have one provision at a time: a quick answer at the door; the services hold the real locks
      CREATE UNIQUE INDEX provisions_node ON provisions (node) WHERE ended_at IS NULL;
      CREATE UNIQUE INDEX provisions_disk ON provisions (disk) WHERE ended_at IS NULL;
      CREATE INDEX provisions_by_project ON provisions (project, id DESC);

      CREATE TABLE events (
        sequence bigserial PRIMARY KEY, id uuid NOT NULL UNIQUE, type text NOT NULL, project uuid, time timestamptz NOT NULL,
        traceparent text, data jsonb NOT NULL);
      CREATE INDEX events_by_project ON events (project, sequence);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE events, provisions, operation_steps, operations, tokens, projects');
  }
}

/** The keys under which requests may be sent again. */
export class IdempotencyKeys1796000000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE idempotency_keys (
        token uuid NOT NULL, key text NOT NULL, use_case text NOT NULL, request_hash bytea NOT NULL, id uuid NOT NULL UNIQUE,
        reply bytea, fence int NOT NULL DEFAULT 0,
        lease_until timestamptz NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
        PRIMARY KEY (token, key));
      CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
      -- keys that operations were begun with before: a request that is repeated over the upgrade finds its operation
      INSERT INTO idempotency_keys (token, key, use_case, request_hash, id, lease_until, created_at, ended_at)
        SELECT token, idempotency_key, kind, '', id, now(), created_at, now() FROM operations WHERE idempotency_key IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE idempotency_keys');
  }
}

/** What is current among much that has ended, and events of a type, without a look at all others. */
export class GatewayIndexes1798000000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX provisions_current ON provisions (project, id DESC) WHERE ended_at IS NULL;
      CREATE INDEX provisions_by_operation ON provisions (operation) WHERE ended_at IS NULL;
      CREATE INDEX events_by_time ON events (time);
      CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL;
      CREATE INDEX provisions_ended ON provisions (ended_at) WHERE ended_at IS NOT NULL;
      CREATE INDEX tokens_valid ON tokens (id DESC) WHERE revoked_at IS NULL;
      CREATE INDEX tokens_by_project ON tokens (project);
      CREATE INDEX events_by_type ON events (type text_pattern_ops, sequence);
      CREATE INDEX events_by_project_type ON events (project, type text_pattern_ops, sequence);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX provisions_current, provisions_by_operation, provisions_ended, events_by_time, tokens_valid, tokens_revoked, tokens_by_project, events_by_type, events_by_project_type`);
  }
}

/** In this order. */
export const gatewayMigrations = [
  Gateway1795000000001,
  Saga1796000000000,
  IdempotencyKeys1796000000001,
  SagaAbsence1797000000000,
  SagaDecisions1797100000000,
  SagaIndexes1798000000000,
  GatewayIndexes1798000000001,
];
