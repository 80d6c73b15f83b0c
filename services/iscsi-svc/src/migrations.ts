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

/** The same export on several hosts, each with its own portals. */
export class IscsiHosts1795100000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE portal_hosts (host text PRIMARY KEY, seen_at timestamptz NOT NULL);
      CREATE TABLE export_portals (
        export uuid REFERENCES exports ON DELETE CASCADE, host text, portals jsonb NOT NULL DEFAULT '[]',
        PRIMARY KEY (export, host));
      INSERT INTO export_portals SELECT id, 'default', portals FROM exports;
      ALTER TABLE exports DROP COLUMN portals;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE exports ADD COLUMN portals jsonb NOT NULL DEFAULT '[]';
      UPDATE exports SET portals = ep.portals FROM export_portals ep WHERE export = id AND host = 'default';
      DROP TABLE export_portals;
      DROP TABLE portal_hosts;`);
  }
}

/** In this order. */
export const iscsiMigrations = [Iscsi1795000000003, IscsiHosts1795100000003];
