import { imageDeleted, M2Error } from '@m2/contracts';
import { type Effect, type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { TagRemover } from '../disks/tag-remover.js';
import { STORAGE } from '../storage/storage.token.js';
import { commandTime, type Committer, finishRemoval, withoutCommand } from '../volumes/removal.js';
import { ImageStore } from './image-store.js';
import { Importer } from './importer.js';

/** An image whose row says that it is being deleted. */
interface Leaving {
  id: string;
  project: string;
  name: string;
  volume: string;
  /** The tag that it was being copied from. */
  tag: string | null;
}

const leavingColumns = 'id, project, name, volume, from_tag AS tag';

/** Removes images. */
@Injectable()
export class ImageRemover {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
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
      const [leaving] = await sql.query<Leaving>(
        `UPDATE images SET state = 'deleting', deleting_since = now() WHERE id = $1 RETURNING ${leavingColumns}`,
        [id],
      );
      return { ...leaving!, wasReady: row.state === 'ready' };
    });
    if (image) await this.finish(effect, image, image.wasReady);
    else await effect.commit(async () => ({}));
  }

  /** Images whose removal was interrupted, and that nobody went on with. They are the caller's now, to `finishInterrupted`. */
  interrupted(): Promise<Leaving[]> {
    return this.kit.database.query<Leaving>(
      `UPDATE images SET deleting_since = now() WHERE state = 'deleting' AND deleting_since < now() - interval '${commandTime}'
       RETURNING ${leavingColumns}`,
    );
  }

  finishInterrupted(image: Leaving): Promise<void> {
    return this.finish(withoutCommand(this.kit), image, false);
  }

  /**
   * Removes an image that is marked. `isWhole`: nobody began to remove it before, so it can be used again when somebody is reading it now. When
   * a removal was interrupted, a part of the image may be gone: it stays marked, and its removal is tried again.
   */
  private async finish(
    committer: Committer,
    { id, project, name, volume, tag }: Leaving,
    isWhole: boolean,
  ): Promise<void> {
    await this.importer.stop(id);
    await finishRemoval(committer, {
      destroy: () => this.storage.ensureNoGolden(volume),
      restore: async () => {
        if (isWhole)
          await committer.query(
            `UPDATE images SET state = 'ready', deleting_since = NULL WHERE id = $1 AND state = 'deleting'`,
            [id],
          );
      },
      forget: async (sql, emit) => {
        await sql.query('DELETE FROM image_exports WHERE image = $1', [id]);
        // Another replica may have deleted it.
        const gone = await sql.query('DELETE FROM images WHERE id = $1 RETURNING id', [id]);
        if (gone.length > 0) emit(imageDeleted, { id, project, name }, { entity: id, project });
      },
      release: async () => {
        if (tag) await this.tags.release(tag);
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
