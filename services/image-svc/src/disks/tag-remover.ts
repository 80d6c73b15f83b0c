import { diskUntagged, M2Error } from '@m2/contracts';
import { type Effect, type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import { finishRemoval, withoutCommand } from '../volumes/removal.js';
import { storageTag, type TagRow, TagStore, volumeOf } from './tag-store.js';

/** Removes tags, and what disks keep only because of tags. */
@Injectable()
export class TagRemover {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /** Removes a tag on request. A tag that is gone is fine. Throws M2Error `tag.in_use`. */
  async untag(effect: Effect, id: string, disk: string, project: string): Promise<void> {
    const tag = await effect.transaction(async (sql) => {
      const row = await this.tags.locked(sql, id, 'UPDATE');
      if (!row || row.disk !== disk || row.project !== project) return undefined;
      const dependents = await this.tags.dependents(sql, id);
      if (dependents.length > 0)
        throw new M2Error('tag.in_use', `Made from the tag "${row.name}": ${dependents.join('; ')}`);
      await sql.query(`UPDATE tags SET state = 'deleting' WHERE id = $1`, [id]);
      return row;
    });
    if (!tag) {
      await effect.commit(async () => ({}));
      return;
    }
    await finishRemoval(effect, {
      destroy: () => this.storage.ensureNoTag(volumeOf(tag), storageTag(id)),
      // After a removal that was interrupted it stays marked: a part of it may be gone. The housekeeping goes on.
      restore: async () => {
        if (tag.state === 'ready')
          await effect.query(`UPDATE tags SET state = 'ready' WHERE id = $1 AND state = 'deleting'`, [id]);
      },
      forget: async (sql, emit) => {
        await sql.query('DELETE FROM tags WHERE id = $1', [id]);
        const [owner] = await sql.query<{ name: string }>('SELECT name FROM disks WHERE id = $1', [disk]);
        const meta = { entity: disk, project };
        emit(diskUntagged, { id: disk, project, name: owner!.name, tag: id, tagName: tag.name }, meta);
      },
      release: () => this.settle(disk),
    });
  }

  /** Removes an automatic tag that nothing depends on any more. Errors are logged; the housekeeping tries again. */
  release(id: string): Promise<void> {
    return this.removeUnneeded(id, ({ automatic }) => automatic);
  }

  /** Removes a tag whose creation or removal was interrupted. Errors are logged; the housekeeping tries again. */
  removeUnfinished(id: string): Promise<void> {
    return this.removeUnneeded(id, ({ state }) => state !== 'ready');
  }

  private async removeUnneeded(id: string, isUnneeded: (tag: TagRow) => boolean): Promise<void> {
    try {
      const tag = await this.kit.database.transaction(async (sql) => {
        const row = await this.tags.locked(sql, id, 'UPDATE');
        if (!row || !isUnneeded(row) || (await this.tags.dependents(sql, id)).length > 0) return undefined;
        await sql.query(`UPDATE tags SET state = 'deleting' WHERE id = $1`, [id]);
        return row;
      });
      if (!tag) return;
      await finishRemoval(withoutCommand(this.kit), {
        destroy: () => this.storage.ensureNoTag(volumeOf(tag), storageTag(id)),
        forget: async (sql) => void (await sql.query('DELETE FROM tags WHERE id = $1', [id])),
        release: () => this.settle(tag.disk),
      });
    } catch (error) {
      this.kit.log.warn({ err: error, tag: id }, 'an unneeded tag could not be removed; it is tried again');
    }
  }

  /**
   * Removes the disk's former volumes (from before rollbacks) that have no tags any more. Then drops the disk's reference to its image and
   * to the tag that it was cloned from, when the disk is flat and no older tag of it needs them. Errors are logged; the housekeeping tries
   * again.
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
        if (gone?.tag) await this.release(gone.tag);
      }
      const [free] = await this.kit.database.query<{ tag: string }>(
        `WITH flat AS (SELECT id, parent_tag FROM disks d WHERE id = $1 AND depth = 0 AND parent_tag IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.volume = d.volume AND t.depth > 0) FOR UPDATE)
         UPDATE disks d SET parent_tag = NULL FROM flat WHERE d.id = flat.id RETURNING flat.parent_tag AS tag`,
        [disk],
      );
      if (free) await this.release(free.tag);
      await this.kit.database.query(
        `UPDATE disks d SET image = NULL WHERE id = $1 AND depth = 0 AND image IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM former_volumes WHERE disk = d.id) AND NOT EXISTS (SELECT 1 FROM tags WHERE disk = d.id)`,
        [disk],
      );
    } catch (error) {
      this.kit.log.warn(
        { err: error, disk },
        'what a disk does not need any more could not be removed; it is tried again',
      );
    }
  }
}
