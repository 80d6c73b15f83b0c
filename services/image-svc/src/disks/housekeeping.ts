import { diskDeleted, M2Error } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { StorageBackend } from '../backends/storage.port.js';
import { STORAGE } from '../backends/storage.token.js';
import type { ImageConfig } from '../config.js';
import { DiskRemover } from './disk-remover.js';
import { DiskStore } from './disk-store.js';
import { storageTag, volumeOf } from './tag-store.js';

const everyMs = 60_000;
/** No command works for so long: what it left pending is nobody's. */
const commandTime = '1 hour';

/** Empties the trash when its time has come, and ends what died between its last transaction and its last word to the storage. */
@Injectable()
export class Housekeeping implements OnModuleInit, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> = Promise.resolve();

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(DiskRemover) private readonly remover: DiskRemover,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => this.enqueue(), everyMs);
    this.enqueue();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.round;
  }

  private enqueue(): void {
    this.round = this.round
      .then(() => this.run())
      .catch((error: unknown) => {
        this.kit.log.warn({ err: error }, 'the housekeeping was not done; it is tried again');
      });
  }

  private async run(): Promise<void> {
    await this.emptyTrash();
    await this.endTags();
    await this.endRollbacks();
    const left = await this.kit.database.query<{ disk: string }>(
      `SELECT DISTINCT disk FROM former_volumes f
       WHERE NOT pending AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.volume = f.volume)`,
    );
    for (const { disk } of left) await this.remover.settle(disk);
  }

  /** One by one, so that one that is in use keeps no other from going. */
  private async emptyTrash(): Promise<void> {
    const due = await this.kit.database.query<{ id: string; project: string }>(
      `SELECT id, project FROM disks WHERE state = 'trashed' AND trashed_at <= now() - make_interval(hours => 1) * $1`,
      [this.kit.config.trashHours],
    );
    for (const { id, project } of due)
      await this.purge(id, project).catch((error: unknown) => {
        this.kit.log.warn({ err: error, disk: id }, 'a disk in the trash could not be removed; it is tried again');
      });
  }

  private async purge(id: string, project: string): Promise<void> {
    const disk = await this.kit.database.transaction(async (sql) => {
      const row = await this.disks.locked(sql, id, project);
      if (row?.state !== 'trashed') return undefined;
      await this.remover.begin(sql, row);
      return row;
    });
    if (!disk) return;
    try {
      await this.remover.removeVolumes(this.kit.database, disk);
    } catch (error) {
      // Back into the trash: the next round, or a person, finds it there.
      await this.kit.database.query(`UPDATE disks SET state = 'trashed' WHERE id = $1 AND state = 'deleting'`, [id]);
      throw M2Error.from(error);
    }
    await this.kit.transact(async (sql, emit) => {
      await this.remover.forget(sql, id);
      emit(diskDeleted, { id, project, name: disk.name, volume: disk.volume }, { entity: id, project });
    });
    if (disk.parentTag) await this.remover.releaseTag(disk.parentTag);
  }

  /** Tags that were made for something that is gone, and those whose removal, or making, nobody ended. */
  private async endTags(): Promise<void> {
    const unneeded = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM tags t WHERE automatic AND created_at < now() - interval '${commandTime}'
         AND NOT EXISTS (SELECT 1 FROM disks WHERE parent_tag = t.id) AND NOT EXISTS (SELECT 1 FROM images WHERE from_tag = t.id)
         AND NOT EXISTS (SELECT 1 FROM former_volumes WHERE parent_tag = t.id)`,
    );
    for (const { id } of unneeded) await this.remover.releaseTag(id);
    const left = await this.kit.database.query<{ id: string; disk: string; project: string; volume: string }>(
      `SELECT t.id, t.disk, d.project, t.volume FROM tags t JOIN disks d ON d.id = t.disk
       WHERE t.state <> 'ready' AND d.state = 'ready' AND t.created_at < now() - interval '${commandTime}'
         AND NOT EXISTS (SELECT 1 FROM disks WHERE parent_tag = t.id)`,
    );
    for (const tag of left) {
      await this.storage.ensureNoTag(volumeOf(tag), storageTag(tag.id));
      await this.kit.database.query('DELETE FROM tags WHERE id = $1', [tag.id]);
      await this.remover.settle(tag.disk);
    }
  }

  private async endRollbacks(): Promise<void> {
    const pending = await this.kit.database.query<{ volume: string; project: string }>(
      `DELETE FROM former_volumes f USING disks d
       WHERE d.id = f.disk AND f.pending AND f.created_at < now() - interval '${commandTime}' RETURNING f.volume, d.project`,
    );
    // The row goes first: a rollback that wakes up now finds that it was given up. What stays in the storage is found by the check.
    for (const { volume, project } of pending) await this.storage.ensureNoDisk({ project, name: volume });
  }
}
