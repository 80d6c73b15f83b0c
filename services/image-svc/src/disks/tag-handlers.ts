import {
  type Disk,
  diskRollback,
  diskRolledBack,
  diskTag,
  diskTagged,
  diskTags,
  diskUntag,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, type Emit, Handles, type Kit, KIT, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { assertQuota } from '../quotas/quotas.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { assertFree, type DiskRow, DiskStore, toDisk } from './disk-store.js';
import { Flattener } from './flattener.js';
import { TagRemover } from './tag-remover.js';
import { originOf, storageTag, TagStore, toTag, volumeOf } from './tag-store.js';

/** Creates, removes and lists tags, and rolls disks back to them. A tag is the content of a disk at one moment. */
@Controller()
export class TagHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(TagRemover) private readonly remover: TagRemover,
    @Inject(Flattener) private readonly flattener: Flattener,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Answers(diskTags)
  list(filter: RequestOf<typeof diskTags>) {
    return this.tags.list(filter);
  }

  @Handles(diskTag)
  async tag({ tagId, diskId, project, name }: RequestOf<typeof diskTag>, effect: Effect) {
    const { disk, tag } = await effect.transaction(async (sql) => {
      const row = await this.disks.ready(sql, diskId, project);
      return { disk: row, tag: await this.tags.record(sql, row, { id: tagId, name, automatic: false }) };
    });
    await this.storage.ensureTag(volumeOf(tag), storageTag(tag.id));
    return effect.commit(async (sql, emit) => {
      if (!(await this.tags.markReady(sql, tagId)))
        throw new M2Error('tag.not_found', `The tag "${name}" was deleted while it was being created`);
      emit(
        diskTagged,
        { id: diskId, project, name: disk.name, tag: tagId, tagName: name },
        { entity: diskId, project },
      );
      return toTag(tag);
    });
  }

  @Handles(diskUntag)
  async untag({ tagId, diskId, project }: RequestOf<typeof diskUntag>, effect: Effect) {
    await this.remover.untag(effect, tagId, diskId, project);
    return {};
  }

  /**
   * The disk gets a new volume, a clone of the tag. That takes no time, whatever the size. The old volume stays as long as it has tags, so
   * later tags survive. Nothing has changed until the one transaction that exchanges the volumes.
   */
  @Handles(diskRollback)
  async rollback({ diskId, project, tag: tagId }: RequestOf<typeof diskRollback>, effect: Effect): Promise<Disk> {
    const { tag, volume } = await effect.transaction((sql) => this.recordRollback(sql, diskId, project, tagId));
    await this.flattener.stop(diskId);
    const deep = tag.depth + 1 > this.kit.config.maxCloneDepth;
    const exchange = async (sql: Sql, emit: Emit) => {
      const row = await this.disks.ready(sql, diskId, project);
      const mine = await sql.query('DELETE FROM former_volumes WHERE volume = $1 AND pending RETURNING volume', [
        volume,
      ]);
      if (mine.length === 0)
        throw new M2Error(
          'disk.not_ready',
          'The rollback was abandoned, or another rollback to the same tag came first',
        );
      // The disk may have been larger when it was tagged.
      await assertQuota(sql, project, { bytes: Math.max(0, tag.sizeBytes - row.sizeBytes) });
      await sql.query(
        'INSERT INTO former_volumes (volume, disk, parent_tag, pending, created_at) VALUES ($1, $2, $3, false, clock_timestamp())',
        [row.volume, diskId, row.parentTag],
      );
      await sql.query(
        'UPDATE disks SET volume = $2, parent_tag = $3, depth = $4, size_bytes = $5, flattening = $6 WHERE id = $1',
        [diskId, volume, tagId, tag.depth + 1, tag.sizeBytes, deep ? '{"progress":null,"error":null}' : null],
      );
      const meta = { entity: diskId, project };
      emit(diskRolledBack, { id: diskId, project, name: row.name, tag: tagId, tagName: tag.name, volume }, meta);
      return (await this.disks.locked(sql, diskId, project))!;
    };
    let disk: DiskRow;
    try {
      await this.storage.ensureClone(originOf(tag), { project, name: volume }, { sizeBytes: tag.sizeBytes });
      disk = await effect.commit(exchange);
    } catch (error) {
      if (!M2Error.from(error).retryable) await this.abandon(effect, project, volume);
      throw error;
    }
    if (deep) this.flattener.start(diskId);
    await this.remover.settle(diskId);
    return toDisk(disk);
  }

  private async recordRollback(sql: Sql, diskId: string, project: string, tagId: string) {
    const disk = await this.disks.ready(sql, diskId, project);
    assertFree(disk);
    const tag = await this.tags.usable(sql, tagId, diskId, project);
    if (tag.state !== 'ready') throw new M2Error('tag.not_found', `The tag "${tag.name}" is ${tag.state}`);
    if (tag.depth + 1 > this.kit.config.maxCloneDepth * 2)
      throw new M2Error('disk.too_deep', `The disk "${disk.name}" would be clone number ${tag.depth + 1} of a chain`);
    // A repeated message of the same operation goes on with its rollback. A rollback of another operation is not touched.
    const [begun] = await sql.query<{ volume: string; parent_tag: string }>(
      'SELECT volume, parent_tag FROM former_volumes WHERE disk = $1 AND pending',
      [diskId],
    );
    if (begun && begun.parent_tag !== tagId)
      throw new M2Error('disk.in_use', `The disk "${disk.name}" is being rolled back to another tag`);
    if (begun) return { tag, volume: begun.volume };
    const volume = await newVolumeName(sql);
    await sql.query('INSERT INTO former_volumes (volume, disk, parent_tag, pending) VALUES ($1, $2, $3, true)', [
      volume,
      diskId,
      tagId,
    ]);
    return { tag, volume };
  }

  /**
   * The row goes first. If another rollback to the same tag has made this volume the disk's own, there is no pending row, and the volume
   * stays.
   */
  private async abandon(sql: Sql, project: string, volume: string): Promise<void> {
    const mine = await sql.query('DELETE FROM former_volumes WHERE volume = $1 AND pending RETURNING volume', [volume]);
    if (mine.length > 0) await this.storage.ensureNoDisk({ project, name: volume });
  }
}
