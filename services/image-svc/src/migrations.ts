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

/**
 * What is rare among very many rows is found by an index of its own: what is under way, trashed, held. And what was made from an image is
 * found by that image's identifier.
 */
export class ImageIndexes1798000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX disks_trashed ON disks (project, id) WHERE state = 'trashed';
      CREATE INDEX disks_flattening ON disks (created_at) WHERE flattening IS NOT NULL;
      CREATE INDEX disks_held ON disks (volume) WHERE holder IS NOT NULL;
      CREATE INDEX disks_to_settle ON disks (id) WHERE depth = 0 AND (parent_tag IS NOT NULL OR image IS NOT NULL);
      CREATE INDEX disks_bytes ON disks (project) INCLUDE (size_bytes);
      CREATE INDEX images_bytes ON images (project) INCLUDE (size_bytes);
      CREATE INDEX images_importing ON images (created_at) WHERE state = 'importing';
      CREATE INDEX images_public ON images (name, id) WHERE visibility = 'public';
      CREATE INDEX images_shared ON images USING gin (shared_with) WHERE visibility = 'shared';
      CREATE INDEX images_by_parent ON images ((CASE source->>'kind' WHEN 'image' THEN (source->>'image')::uuid
        WHEN 'disk' THEN coalesce((source->>'tag')::uuid, (source->>'disk')::uuid) END));
      CREATE INDEX image_exports_created_at ON image_exports (created_at);
      CREATE INDEX image_exports_running ON image_exports (created_at) WHERE state = 'running';
      CREATE INDEX tags_by_volume ON tags (volume);
      CREATE INDEX tags_automatic ON tags (created_at) WHERE automatic;
      CREATE INDEX tags_not_ready ON tags (created_at) WHERE state <> 'ready';
      CREATE INDEX former_volumes_pending ON former_volumes (created_at) WHERE pending;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX disks_trashed, disks_flattening, disks_held, disks_to_settle, disks_bytes, images_bytes, images_importing, images_public,
        images_shared, images_by_parent, image_exports_created_at, image_exports_running, tags_by_volume, tags_automatic, tags_not_ready, former_volumes_pending`);
  }
}

/** What a project with limits uses is kept beside its limits, by whoever changes what it has. */
export class QuotaUse1798100000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE quotas ADD used_bytes bigint NOT NULL DEFAULT 0, ADD used_disks integer NOT NULL DEFAULT 0,
        ADD used_images integer NOT NULL DEFAULT 0;

      CREATE FUNCTION count_use(p_project uuid) RETURNS TABLE (bytes bigint, disks integer, images integer) LANGUAGE sql AS $$
        SELECT (coalesce(i.bytes, 0) + coalesce(d.bytes, 0))::bigint, d.count::int, i.count::int
        FROM (SELECT sum(size_bytes) AS bytes, count(*) FROM images WHERE project = p_project) i,
             (SELECT sum(coalesce(grows_to, size_bytes)) AS bytes, count(*) FROM disks WHERE project = p_project) d $$;

      -- nobody makes or removes anything between the counting and the commit, from when on the triggers below count
      CREATE FUNCTION begin_quota() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        LOCK TABLE disks, images IN SHARE ROW EXCLUSIVE MODE;
        SELECT * INTO NEW.used_bytes, NEW.used_disks, NEW.used_images FROM count_use(NEW.project);
        RETURN NEW;
      END $$;
      CREATE TRIGGER begin_quota BEFORE INSERT ON quotas FOR EACH ROW EXECUTE FUNCTION begin_quota();

      CREATE FUNCTION keep_quota(p_project uuid, p_times integer, p_bytes bigint, p_disks integer) RETURNS void LANGUAGE sql AS $$
        UPDATE quotas SET used_bytes = used_bytes + p_times * coalesce(p_bytes, 0), used_disks = used_disks + p_times * p_disks,
          used_images = used_images + p_times * (1 - p_disks) WHERE project = p_project $$;
      -- a disk that grows counts as what it is about to have
      CREATE FUNCTION keep_disks_quota() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP <> 'INSERT' THEN PERFORM keep_quota(OLD.project, -1, coalesce(OLD.grows_to, OLD.size_bytes), 1); END IF;
        IF TG_OP <> 'DELETE' THEN PERFORM keep_quota(NEW.project, 1, coalesce(NEW.grows_to, NEW.size_bytes), 1); END IF;
        RETURN NULL;
      END $$;
      CREATE FUNCTION keep_images_quota() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP <> 'INSERT' THEN PERFORM keep_quota(OLD.project, -1, OLD.size_bytes, 0); END IF;
        IF TG_OP <> 'DELETE' THEN PERFORM keep_quota(NEW.project, 1, NEW.size_bytes, 0); END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER keep_quota AFTER INSERT OR DELETE OR UPDATE OF size_bytes, grows_to, project ON disks
        FOR EACH ROW EXECUTE FUNCTION keep_disks_quota();
      CREATE TRIGGER keep_quota AFTER INSERT OR DELETE OR UPDATE OF size_bytes, project ON images
        FOR EACH ROW EXECUTE FUNCTION keep_images_quota();

      UPDATE quotas SET (used_bytes, used_disks, used_images) = (SELECT * FROM count_use(project));`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP TRIGGER keep_quota ON images;
      DROP TRIGGER keep_quota ON disks;
      DROP TRIGGER begin_quota ON quotas;
      DROP FUNCTION keep_disks_quota, keep_images_quota, keep_quota, begin_quota, count_use;
      ALTER TABLE quotas DROP used_bytes, DROP used_disks, DROP used_images;`);
  }
}

/** Deleted projects for which the storage still keeps something. */
export class EndedProjects1798200000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE ended_projects (project uuid PRIMARY KEY)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE ended_projects');
  }
}

/** How far the freeing of a removed volume is: the replica that does it tells all others. What there is to free, the storage says. */
export class Freeing1798300000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE freeing (id text PRIMARY KEY, done bigint NOT NULL, total bigint)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE freeing');
  }
}

/** In the order in which they run. */
export const migrations = [
  Image1795000000005,
  ImageLife1796000000005,
  CephClients1797000000005,
  ImageRemovals1797100000005,
  DiskGrowth1797200000005,
  ImageIndexes1798000000005,
  QuotaUse1798100000005,
  EndedProjects1798200000005,
  Freeing1798300000005,
];
