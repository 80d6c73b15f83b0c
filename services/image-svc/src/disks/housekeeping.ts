import { type Kit, KIT, Periodic } from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { DiskRemover } from './disk-remover.js';
import { DiskStore } from './disk-store.js';
import { ImageRemover } from '../images/image-remover.js';
import { attemptTime, Growth } from './growth.js';
import { TagRemover } from './tag-remover.js';
import { commandTime, withoutCommand } from '../volumes/removal.js';

const everyMs = 60_000;
/** Disks that were in the trash for `$1` hours, and disks whose removal was interrupted. */
const isDue = `(state = 'trashed' AND trashed_at <= now() - make_interval(hours => 1) * $1
  OR state = 'deleting' AND trashed_at < now() - interval '${commandTime}')`;

/** Empties the trash, and ends removals, rollbacks and growth that were interrupted. */
@Injectable()
export class Housekeeping implements OnModuleInit, BeforeApplicationShutdown {
  private readonly rounds: Periodic;

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(DiskRemover) private readonly remover: DiskRemover,
    @Inject(TagRemover) private readonly tags: TagRemover,
    @Inject(ImageRemover) private readonly images: ImageRemover,
    @Inject(Growth) private readonly growth: Growth,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.rounds = new Periodic({
      everyMs,
      work: () => this.run(),
      onError: (err) => kit.log.warn({ err }, 'the housekeeping failed; it is tried again'),
    });
  }

  onModuleInit(): void {
    this.rounds.start();
    this.rounds.wake();
  }

  /** Waits for the removal that is under way. */
  beforeApplicationShutdown(): Promise<void> {
    return this.rounds.stop();
  }

  private async run(): Promise<void> {
    await this.emptyTrash();
    await this.each(await this.images.interrupted(), (image) => this.images.finishInterrupted(image));
    await this.endTags();
    await this.endRollbacks();
    await this.endGrowth();
    await this.settle();
  }

  /** One by one, so that one failure does not stop the others. */
  private async each<Row extends object>(rows: Row[], work: (row: Row) => Promise<void>): Promise<void> {
    for (const row of rows) {
      if (this.rounds.signal.aborted) return;
      await work(row).catch((error: unknown) => {
        this.kit.log.warn({ err: error, what: row }, 'something that was left could not be ended; it is tried again');
      });
    }
  }

  private async emptyTrash(): Promise<void> {
    const due = await this.kit.database.query<{ id: string; project: string }>(
      `SELECT id, project FROM disks WHERE ${isDue}`,
      [this.kit.config.trashHours],
    );
    await this.each(due, ({ id, project }) => this.purge(id, project));
  }

  private async purge(id: string, project: string): Promise<void> {
    const disk = await this.kit.database.transaction(async (sql) => {
      // Somebody may have restored it, or another replica may have begun.
      const due = await sql.query(`SELECT 1 FROM disks WHERE id = $2 AND ${isDue} FOR UPDATE`, [
        this.kit.config.trashHours,
        id,
      ]);
      const row = due.length > 0 ? await this.disks.locked(sql, id, project) : undefined;
      if (row) await this.remover.begin(sql, row);
      return row;
    });
    if (disk) await this.remover.finish(withoutCommand(this.kit), disk);
  }

  /** Removes tags that were made for something that is gone, and tags whose creation or removal was interrupted. */
  private async endTags(): Promise<void> {
    const unneeded = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM tags t WHERE automatic AND created_at < now() - interval '${commandTime}'
         AND NOT EXISTS (SELECT 1 FROM disks WHERE parent_tag = t.id) AND NOT EXISTS (SELECT 1 FROM images WHERE from_tag = t.id)
         AND NOT EXISTS (SELECT 1 FROM former_volumes WHERE parent_tag = t.id)`,
    );
    await this.each(unneeded, ({ id }) => this.tags.release(id));
    const left = await this.kit.database.query<{ id: string }>(
      `SELECT t.id FROM tags t JOIN disks d ON d.id = t.disk
       WHERE t.state <> 'ready' AND d.state = 'ready' AND t.created_at < now() - interval '${commandTime}'`,
    );
    await this.each(left, ({ id }) => this.tags.removeUnfinished(id));
  }

  private async endRollbacks(): Promise<void> {
    const pending = await this.kit.database.query<{ volume: string; project: string }>(
      `DELETE FROM former_volumes f USING disks d
       WHERE d.id = f.disk AND f.pending AND f.created_at < now() - interval '${commandTime}' RETURNING f.volume, d.project`,
    );
    // The row goes first: a rollback that goes on now finds that it was abandoned. The storage check finds what stays in the storage.
    await this.each(pending, ({ volume, project }) => this.storage.ensureNoDisk({ project, name: volume }));
  }

  private async endGrowth(): Promise<void> {
    const growing = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM disks WHERE grows_to IS NOT NULL AND state = 'ready' AND grows_since < now() - interval '${attemptTime}'`,
    );
    await this.each(growing, ({ id }) => this.growth.settle(this.kit.database, id));
  }

  /** Frees what disks do not need any more, where the command that should have done it died. */
  private async settle(): Promise<void> {
    const left = await this.kit.database.query<{ disk: string }>(
      `SELECT disk FROM former_volumes f WHERE NOT pending AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.volume = f.volume)
       UNION SELECT id FROM disks d WHERE depth = 0 AND (parent_tag IS NOT NULL OR image IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.disk = d.id)`,
    );
    await this.each(left, ({ disk }) => this.tags.settle(disk));
  }
}
