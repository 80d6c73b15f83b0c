import { diskDeleted, M2Error } from '@m2/contracts';
import type { Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import { type Committer, finishRemoval } from '../volumes/removal.js';
import type { DiskRow } from './disk-store.js';
import { TagRemover } from './tag-remover.js';

/** Removes disks with their former volumes and tags, dependents first. */
@Injectable()
export class DiskRemover {
  constructor(
    @Inject(TagRemover) private readonly tags: TagRemover,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /** Throws M2Error `tag.in_use` when another disk, or an image that is being created, depends on a tag of this disk. */
  async assertUnused(sql: Sql, disk: DiskRow): Promise<void> {
    // Nobody creates anything from a tag whose row is locked.
    const tags = await sql.query('SELECT id FROM tags WHERE disk = $1 ORDER BY id FOR UPDATE', [disk.id]);
    if (tags.length === 0) return;
    const users = await this.users(sql, disk.id);
    if (users.length > 0)
      throw new M2Error('tag.in_use', `Made from tags of the disk "${disk.name}": ${users.join('; ')}`);
  }

  /** What was made from the tags of a disk, in words, at most five. */
  async users(sql: Sql, disk: string): Promise<string[]> {
    const rows = await sql.query<{ what: string }>(
      `WITH t AS (SELECT id FROM tags WHERE disk = $1)
       SELECT 'disk ' || name AS what FROM disks WHERE parent_tag IN (SELECT id FROM t) AND id <> $1
       UNION ALL SELECT 'disk ' || d.name FROM former_volumes f JOIN disks d ON d.id = f.disk
         WHERE f.parent_tag IN (SELECT id FROM t) AND f.disk <> $1
       UNION ALL SELECT 'image ' || name || ', which is being copied' FROM images WHERE from_tag IN (SELECT id FROM t) LIMIT 5`,
      [disk],
    );
    return rows.map(({ what }) => what);
  }

  /**
   * Marks the disk as being deleted: from here on nobody can claim it, tag it or create anything from it. A disk in the trash may have the
   * same name as a newer disk, so it gets a unique one when it leaves the trash for good.
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

  /** Removes a disk for good, after `begin`. After an error the disk stays marked: a part of it may be gone, so it cannot be restored. */
  async finish(committer: Committer, disk: DiskRow): Promise<void> {
    const { id, project, name, volume, parentTag } = disk;
    await finishRemoval(committer, {
      destroy: () => this.removeVolumes(committer, disk),
      forget: async (sql, emit) => {
        if (await this.forget(sql, id)) emit(diskDeleted, { id, project, name, volume }, { entity: id, project });
      },
      release: async () => {
        if (parentTag) await this.tags.release(parentTag);
      },
    });
  }

  /** Newest first: the volume of an unfinished rollback may be a clone of the current one, and that of a former one. */
  private async removeVolumes(
    sql: Sql,
    { id, project, volume }: Pick<DiskRow, 'id' | 'project' | 'volume'>,
  ): Promise<void> {
    const others = await sql.query<{ volume: string; pending: boolean }>(
      'SELECT volume, pending FROM former_volumes WHERE disk = $1 ORDER BY created_at DESC',
      [id],
    );
    const [pending, former] = [others.filter((one) => one.pending), others.filter((one) => !one.pending)];
    for (const { volume: name } of [...pending, { volume }, ...former])
      await this.storage.ensureNoDisk({ project, name });
  }

  /** Returns whether the row was there: another replica may have deleted it. */
  private async forget(sql: Sql, id: string): Promise<boolean> {
    await sql.query('DELETE FROM former_volumes WHERE disk = $1', [id]);
    await sql.query('UPDATE disks SET parent_tag = NULL WHERE id = $1', [id]);
    await sql.query('DELETE FROM tags WHERE disk = $1', [id]);
    return (await sql.query('DELETE FROM disks WHERE id = $1 RETURNING id', [id])).length > 0;
  }
}
