import { imageDeleted, M2Error } from '@m2/contracts';
import type { Effect, Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { TagRemover } from '../disks/tag-remover.js';
import { STORAGE } from '../storage/storage.token.js';
import { finishRemoval } from '../volumes/removal.js';
import { ImageStore } from './image-store.js';
import { Importer } from './importer.js';

/** Removes images. */
@Injectable()
export class ImageRemover {
  constructor(
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(Importer) private readonly importer: Importer,
    @Inject(TagRemover) private readonly tags: TagRemover,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /**
   * Marks the image as being deleted, so that nobody clones it and its import stops, then removes it. The foreign key finds a disk that was
   * cloned just before. An image that is gone is fine. Throws M2Error `image.in_use`.
   */
  async remove(effect: Effect, id: string, project: string): Promise<void> {
    const image = await effect.transaction(async (sql) => {
      const row = await this.images.locked(sql, id, project);
      if (!row) return undefined;
      const users = await this.users(sql, id, project);
      if (users.length > 0)
        throw new M2Error('image.in_use', `The image "${row.name}" is in use by ${users.join(', ')}`);
      const [{ tag } = { tag: null }] = await sql.query<{ tag: string | null }>(
        `UPDATE images SET state = 'deleting' WHERE id = $1 RETURNING from_tag AS tag`,
        [id],
      );
      return { ...row, tag };
    });
    if (!image) {
      await effect.commit(async () => ({}));
      return;
    }
    await this.importer.stop(id);
    await finishRemoval(effect, {
      destroy: () => this.storage.ensureNoGolden(image.volume),
      // A download or an export is reading it now.
      restore: async () => {
        if (image.state === 'ready')
          await effect.query(`UPDATE images SET state = 'ready' WHERE id = $1 AND state = 'deleting'`, [id]);
      },
      forget: async (sql, emit) => {
        await sql.query('DELETE FROM image_exports WHERE image = $1', [id]);
        await sql.query('DELETE FROM images WHERE id = $1', [id]);
        emit(imageDeleted, { id, project, name: image.name }, { entity: id, project });
      },
      release: async () => {
        if (image.tag) await this.tags.release(image.tag);
      },
    });
  }

  /** What uses an image, in words. Things of other projects are counted and not named. */
  private async users(sql: Sql, image: string, project: string): Promise<string[]> {
    const rows = await sql.query<{ what: string; project: string }>(
      `SELECT 'disk ' || name || CASE state WHEN 'trashed' THEN ' (in the trash)' ELSE '' END AS what, project FROM disks WHERE image = $1
       UNION ALL SELECT 'image ' || name || ' (being copied from it)', project FROM images WHERE from_image = $1
       UNION ALL SELECT 'the export to ' || volume, project FROM image_exports WHERE image = $1 AND state = 'running'
       ORDER BY what`,
      [image],
    );
    const own = rows.filter((row) => row.project === project).map(({ what }) => what);
    const others = rows.length - own.length;
    const named = own.length > 5 ? [...own.slice(0, 5), `${own.length - 5} more`] : own;
    return others > 0 ? [...named, `${others} of other projects`] : named;
  }
}
