import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Boot1795000000004 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE boot_configs (
        id uuid PRIMARY KEY, project uuid NOT NULL, provision uuid NOT NULL, node uuid NOT NULL, node_name text NOT NULL,
        mac macaddr NOT NULL CONSTRAINT boot_configs_mac UNIQUE, export uuid NOT NULL, initiator text NOT NULL,
        state text NOT NULL DEFAULT 'armed',
        -- the address that the script went to; nobody else gets it, nor may phone home
        address inet, phone_home_hash bytea UNIQUE, report jsonb,
        created_at timestamptz NOT NULL DEFAULT now(), script_served_at timestamptz, booted_at timestamptz);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE boot_configs');
  }
}

export const bootMigrations = [Boot1795000000004];
