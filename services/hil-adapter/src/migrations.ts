import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Hil1795000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE nodes (
        id uuid PRIMARY KEY, name text NOT NULL CONSTRAINT nodes_name UNIQUE, project uuid, firmware text NOT NULL,
        bmc jsonb NOT NULL, bmc_password bytea NOT NULL,
        holder uuid, holder_project uuid,
        -- the effect that saw the node off and was about to power it on
        power_effect text,
        created_at timestamptz NOT NULL DEFAULT now());
      CREATE TABLE nics (
        node uuid NOT NULL REFERENCES nodes ON DELETE CASCADE, label text NOT NULL, mac macaddr NOT NULL CONSTRAINT nics_mac UNIQUE,
        position int NOT NULL, network text, PRIMARY KEY (node, label));`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE nics, nodes');
  }
}

/** A person marked it broken: who, why, and since when. */
export class BrokenNodes1796000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE nodes ADD COLUMN broken jsonb');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE nodes DROP COLUMN broken');
  }
}

export class NodesByProject1798000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE INDEX nodes_by_project ON nodes (project, name)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX nodes_by_project');
  }
}

/** In this order. */
export const hilMigrations = [Hil1795000000002, BrokenNodes1796000000002, NodesByProject1798000000002];
