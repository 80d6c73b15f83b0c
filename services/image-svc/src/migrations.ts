import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Image1795000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- volumes are <uid>img<n>; the uid tells installations apart that share a storage, and a sequence never hands out an n twice
      CREATE TABLE installation (uid text NOT NULL);
      INSERT INTO installation SELECT 'm' || substr(md5(random()::text || clock_timestamp()::text), 1, 8);
      CREATE SEQUENCE volume_numbers;

      CREATE TABLE images (
        id uuid PRIMARY KEY, project uuid NOT NULL, name text NOT NULL, state text NOT NULL, volume text NOT NULL UNIQUE,
        source jsonb NOT NULL, declared_format text, declared_sha256 text,
        format text, size_bytes bigint, sha256 text, progress jsonb, error jsonb,
        created_at timestamptz NOT NULL DEFAULT now(), CONSTRAINT images_name UNIQUE (project, name));

      CREATE TABLE disks (
        id uuid PRIMARY KEY, project uuid NOT NULL, name text NOT NULL, state text NOT NULL, volume text NOT NULL UNIQUE,
        image uuid NOT NULL CONSTRAINT disks_image REFERENCES images, size_bytes bigint NOT NULL, holder uuid,
        created_at timestamptz NOT NULL DEFAULT now(), CONSTRAINT disks_name UNIQUE (project, name));
      CREATE INDEX disks_by_image ON disks (image);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE disks, images, installation; DROP SEQUENCE volume_numbers');
  }
}
