import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Iscsi1795000000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE exports (
        id uuid PRIMARY KEY, project uuid NOT NULL, disk uuid NOT NULL CONSTRAINT exports_disk UNIQUE,
        iqn text NOT NULL CONSTRAINT exports_iqn UNIQUE, initiator text NOT NULL, backing jsonb NOT NULL,
        chap_user text NOT NULL, chap_secret bytea NOT NULL, portals jsonb NOT NULL DEFAULT '[]',
        state text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
      CREATE INDEX exports_by_project ON exports (project, id DESC);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE exports');
  }
}
