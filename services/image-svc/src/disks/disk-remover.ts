import { M2Error } from '@m2/contracts';
import { type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { DiskRow } from './disk-store.js';
import { storageTag, type TagRow, TagStore, volumeOf } from './tag-store.js';

/** Takes disks, their former volumes and their tags away, in the order in which they depend on each other. */
@Injectable()
export class DiskRemover {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /** Throws M2Error `tag.in_use` when something of another disk, or an image on its way, depends on a tag of this disk. */
  async assertUnused(sql: Sql, disk: DiskRow): Promise<void> {
    // Nobody makes anything from a tag whose row is locked.
    const tags = await sql.query<{ id: string; name: string }>(
      'SELECT id, name FROM tags WHERE disk = $1 ORDER BY id FOR UPDATE',
      [disk.id],
    );
    if (tags.length === 0) return;
    const users = await sql.query<{ what: string }>(
      `SELECT 'disk ' || name AS what FROM disks WHERE parent_tag = ANY ($2) AND id <> $1
       UNION ALL SELECT 'disk ' || d.name FROM former_volumes f JOIN disks d ON d.id = f.disk
         WHERE f.parent_tag = ANY ($2) AND f.disk <> $1
       UNION ALL SELECT 'image ' || name || ', which is being copied' FROM images WHERE from_tag = ANY ($2) LIMIT 5`,
      [disk.id, tags.map(({ id }) => id)],
    );
    if (users.length > 0)
      throw new M2Error(
        'tag.in_use',
        `Made from tags of the disk "${disk.name}": ${users.map(({ what }) => what).join('; ')}`,
      );
  }

  /**
   * The row says first that the disk is on its way out: from here on nobody claims it, tags it or makes anything from it. The trash keeps
   * no names, so what leaves it for good goes under one that is no other disk's.
   */
  async begin(sql: Sql, disk: DiskRow): Promise<void> {
    await this.assertUnused(sql, disk);
    await sql.query(`UPDATE tags SET state = 'deleting' WHERE disk = $1`, [disk.id]);
    await sql.query(
      `UPDATE disks SET state = 'deleting', trashed_at = now(),
         name = CASE state WHEN 'trashed' THEN left(name, 50) || '-' || right(id::text, 12) ELSE name END WHERE id = $1`,
      [disk.id],
    );
  }

  /** Newest first: what a rollback is making may be a clone of what the disk is now, and that of what it was. */
  async removeVolumes(sql: Sql, { id, project, volume }: Pick<DiskRow, 'id' | 'project' | 'volume'>): Promise<void> {
    const others = await sql.query<{ volume: string; pending: boolean }>(
      'SELECT volume, pending FROM former_volumes WHERE disk = $1 ORDER BY created_at DESC',
      [id],
    );
    const [pending, former] = [others.filter((one) => one.pending), others.filter((one) => !one.pending)];
    for (const { volume: name } of [...pending, { volume }, ...former])
      await this.storage.ensureNoDisk({ project, name });
  }

  /** Answers whether it was there: somebody else may have been at it too. */
  async forget(sql: Sql, id: string): Promise<boolean> {
    await sql.query('DELETE FROM former_volumes WHERE disk = $1', [id]);
    await sql.query('UPDATE disks SET parent_tag = NULL WHERE id = $1', [id]);
    await sql.query('DELETE FROM tags WHERE disk = $1', [id]);
    return (await sql.query('DELETE FROM disks WHERE id = $1 RETURNING id', [id])).length > 0;
  }

  /** Removes a tag that was made for something that is gone. What fails is left for the housekeeping. */
  releaseTag(id: string): Promise<void> {
    return this.removeTag(id, ({ automatic }) => automatic);
  }

  /** Removes a tag whose making, or removal, nobody ended. */
  endTag(id: string): Promise<void> {
    return this.removeTag(id, ({ state }) => state !== 'ready');
  }

  private async removeTag(id: string, mayGo: (tag: TagRow) => boolean): Promise<void> {
    try {
      const tag = await this.kit.database.transaction(async (sql) => {
        const row = await this.tags.locked(sql, id, 'UPDATE');
        if (!row || !mayGo(row) || (await this.tags.dependents(sql, id)).length > 0) return undefined;
        await sql.query(`UPDATE tags SET state = 'deleting' WHERE id = $1`, [id]);
        return row;
      });
      if (!tag) return;
      await this.storage.ensureNoTag(volumeOf(tag), storageTag(id));
      await this.kit.database.query('DELETE FROM tags WHERE id = $1', [id]);
      await this.settle(tag.disk);
    } catch (error) {
      this.kit.log.warn({ err: error, tag: id }, 'a tag that nobody needs is left; it is removed later');
    }
  }

  /**
   * Removes what a disk was before a rollback where no tag lies on it any more, and lets go of its image, and of the tag that it was
   * cloned from, when nothing of the disk depends on them: tags from before it was made flat do. What fails is left for the housekeeping.
   */
  async settle(disk: string): Promise<void> {
    try {
      const former = await this.kit.database.query<{ volume: string; project: string }>(
        `SELECT f.volume, d.project FROM former_volumes f JOIN disks d ON d.id = f.disk
         WHERE f.disk = $1 AND NOT f.pending AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.volume = f.volume)
         ORDER BY f.created_at DESC`,
        [disk],
      );
      for (const { volume, project } of former) {
        await this.storage.ensureNoDisk({ project, name: volume });
        const [gone] = await this.kit.database.query<{ tag: string | null }>(
          'DELETE FROM former_volumes WHERE volume = $1 RETURNING parent_tag AS tag',
          [volume],
        );
        if (gone?.tag) await this.releaseTag(gone.tag);
      }
      const [free] = await this.kit.database.query<{ tag: string }>(
        `WITH flat AS (SELECT id, parent_tag FROM disks d WHERE id = $1 AND depth = 0 AND parent_tag IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.volume = d.volume AND t.depth > 0) FOR UPDATE)
         UPDATE disks d SET parent_tag = NULL FROM flat WHERE d.id = flat.id RETURNING flat.parent_tag AS tag`,
        [disk],
      );
      if (free) await this.releaseTag(free.tag);
      await this.kit.database.query(
        `UPDATE disks d SET image = NULL WHERE id = $1 AND depth = 0 AND image IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM former_volumes WHERE disk = d.id) AND NOT EXISTS (SELECT 1 FROM tags WHERE disk = d.id)`,
        [disk],
      );
    } catch (error) {
      this.kit.log.warn({ err: error, disk }, 'what a disk left behind is removed later');
    }
  }
}
