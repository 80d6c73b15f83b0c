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

/** Sharing, snapshots, tags, trash and quotas. */
export class ImageLife1796000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE images
        ADD visibility text NOT NULL DEFAULT 'private', ADD shared_with uuid[] NOT NULL DEFAULT '{}',
        ADD metadata jsonb NOT NULL
          DEFAULT '{"operatingSystem":null,"architecture":null,"defaultUser":null,"userData":false}',
        -- what it is being copied from: as long as that goes on, nobody removes it
        ADD from_image uuid CONSTRAINT images_from_image REFERENCES images;
      CREATE INDEX images_of_others ON images (name, id) WHERE visibility <> 'private';

      ALTER TABLE disks ALTER image DROP NOT NULL,
        ADD depth integer NOT NULL DEFAULT 1, ADD flattening jsonb, ADD trashed_at timestamptz;
      ALTER TABLE disks DROP CONSTRAINT disks_name;
      -- the trash does not keep names
      CREATE UNIQUE INDEX disks_name ON disks (project, name) WHERE state <> 'trashed';

      CREATE TABLE tags (
        id uuid PRIMARY KEY, disk uuid NOT NULL CONSTRAINT tags_disk REFERENCES disks, name text NOT NULL,
        state text NOT NULL, automatic boolean NOT NULL, volume text NOT NULL, depth integer NOT NULL,
        size_bytes bigint NOT NULL, created_at timestamptz NOT NULL, CONSTRAINT tags_name UNIQUE (disk, name));

      ALTER TABLE disks ADD parent_tag uuid CONSTRAINT disks_parent_tag REFERENCES tags;
      ALTER TABLE images ADD from_tag uuid CONSTRAINT images_from_tag REFERENCES tags;
      CREATE INDEX disks_by_parent_tag ON disks (parent_tag) WHERE parent_tag IS NOT NULL;

      -- what a disk was before it was rolled back: kept as long as tags lie on it. Pending: a rollback is making it, to become the disk's
      CREATE TABLE former_volumes (
        volume text PRIMARY KEY, disk uuid NOT NULL REFERENCES disks, parent_tag uuid REFERENCES tags,
        pending boolean NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
      CREATE INDEX former_volumes_by_disk ON former_volumes (disk);
      CREATE INDEX former_volumes_by_parent_tag ON former_volumes (parent_tag) WHERE parent_tag IS NOT NULL;

      CREATE TABLE image_exports (
        id uuid PRIMARY KEY, project uuid NOT NULL, image uuid NOT NULL CONSTRAINT image_exports_image REFERENCES images,
        volume text NOT NULL, state text NOT NULL, progress jsonb, error jsonb, created_at timestamptz NOT NULL DEFAULT now());
      CREATE INDEX image_exports_by_image ON image_exports (image);
      CREATE INDEX images_by_from_image ON images (from_image) WHERE from_image IS NOT NULL;
      CREATE INDEX images_by_from_tag ON images (from_tag) WHERE from_tag IS NOT NULL;
      CREATE INDEX disks_on_their_way_out ON disks (trashed_at) WHERE trashed_at IS NOT NULL;

      CREATE TABLE quotas (project uuid PRIMARY KEY, bytes bigint, disks integer, images integer);

      CREATE TABLE findings (
        kind text NOT NULL, volume text NOT NULL, tag text NOT NULL, first_seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, volume, tag));`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP TABLE findings, quotas, image_exports, former_volumes;
      ALTER TABLE images DROP from_tag, DROP from_image, DROP visibility, DROP shared_with, DROP metadata;
      ALTER TABLE disks DROP parent_tag, DROP depth, DROP flattening, DROP trashed_at;
      DROP TABLE tags;
      DELETE FROM disks WHERE image IS NULL;
      ALTER TABLE disks ALTER image SET NOT NULL;
      ALTER TABLE disks ADD CONSTRAINT disks_name UNIQUE (project, name);`);
  }
}

/** Which clients of a Ceph cluster the processes of this service had. */
export class CephClients1797000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE ceph_clients (address text PRIMARY KEY)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE ceph_clients`);
  }
}

/** Removals of images that were interrupted are finished, as those of disks are. */
export class ImageRemovals1797100000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE images ADD deleting_since timestamptz;
      UPDATE images SET deleting_since = now() WHERE state = 'deleting';
      CREATE INDEX images_on_their_way_out ON images (deleting_since) WHERE deleting_since IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE images DROP deleting_since');
  }
}

/** The size that a disk is about to have stands beside the one that it has. */
export class DiskGrowth1797200000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- the size that a disk is about to have; size_bytes is what it surely has
      ALTER TABLE disks ADD grows_to bigint, ADD grows_since timestamptz;
      CREATE INDEX disks_that_grow ON disks (grows_since) WHERE grows_to IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE disks DROP grows_to, DROP grows_since');
  }
}

/** In the order in which they run. */
export const migrations = [
  Image1795000000005,
  ImageLife1796000000005,
  CephClients1797000000005,
  ImageRemovals1797100000005,
  DiskGrowth1797200000005,
];
