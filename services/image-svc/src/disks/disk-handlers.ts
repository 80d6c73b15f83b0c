import {
  type Disk,
  diskCreate,
  diskCreated,
  diskDelete,
  diskList,
  diskRestore,
  diskRestored,
  diskShow,
  diskTrashed,
  diskUpdate,
  diskUpdated,
  diskUsers,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, type Emit, Handles, type Kit, KIT, type Sql, violatesUnique } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { Origin, StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { visibleTo } from '../images/image-row.js';
import { assertQuota } from '../quotas/quotas.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { DiskRemover } from './disk-remover.js';
import { assertFree, type DiskRow, DiskStore, toDisk } from './disk-store.js';
import { Flattener } from './flattener.js';
import { Growth } from './growth.js';
import { automaticTagId, originOf, storageTag, type TagRow, TagStore, volumeOf } from './tag-store.js';

const sectorBytes = 512;
const roundUp = (bytes: number) => Math.ceil(bytes / sectorBytes) * sectorBytes;

/** What a new disk is cloned from. `tag` is set when the tag has to be created first. */
interface Source {
  origin: Origin;
  sizeBytes: number;
  depth: number;
  image: string | null;
  parentTag: string | null;
  tag?: TagRow;
}

/**
 * Creates, changes and deletes disks. The row is written before the volume is created and deleted after it, so there is never a volume
 * without a row.
 */
@Controller()
export class DiskHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(DiskRemover) private readonly remover: DiskRemover,
    @Inject(Flattener) private readonly flattener: Flattener,
    @Inject(Growth) private readonly growth: Growth,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Answers(diskShow)
  show({ disk, project }: RequestOf<typeof diskShow>) {
    return this.disks.find(disk, project);
  }

  @Answers(diskList)
  list(filter: RequestOf<typeof diskList>) {
    return this.disks.list(filter);
  }

  @Answers(diskUsers)
  async users({ disk, project }: RequestOf<typeof diskUsers>) {
    const { id } = await this.disks.row(disk, project);
    return { items: await this.remover.users(this.kit.database, id) };
  }

  @Handles(diskCreate)
  async create(request: RequestOf<typeof diskCreate>, effect: Effect): Promise<Disk> {
    const { disk, source } = await effect.transaction((sql) => this.record(sql, request));
    const { project, name, volume, sizeBytes } = disk;
    if (source.tag) await this.storage.ensureTag(volumeOf(source.tag), storageTag(source.tag.id));
    await this.storage.ensureClone(source.origin, { project, name: volume }, { sizeBytes });
    const deep = disk.depth > this.kit.config.maxCloneDepth;
    const flattening = deep ? { progress: null, error: null } : null;
    const made = effect.commit(async (sql, emit) => {
      const tagged = source.tag === undefined || (await this.tags.markReady(sql, source.tag.id));
      const kept = await sql.query(
        `UPDATE disks SET state = CASE state WHEN 'creating' THEN 'ready' ELSE state END, flattening = coalesce($2, flattening)
         WHERE id = $1 AND state <> 'deleting' RETURNING id`,
        [disk.id, flattening && JSON.stringify(flattening)],
      );
      if (!tagged || kept.length === 0)
        throw new M2Error('disk.not_found', `The disk "${name}" was deleted while it was being created`);
      emit(
        diskCreated,
        { id: disk.id, project, name, from: request.from, volume, sizeBytes },
        { entity: disk.id, project },
      );
      return { ...toDisk(disk), state: 'ready' as const, flattening };
    });
    await made.catch(async (error: unknown) => {
      if (M2Error.from(error).code !== 'disk.not_found') throw error;
      // The command that deleted the disk did not find the volume yet, nor perhaps the tag.
      await this.storage.ensureNoDisk({ project, name: volume });
      if (source.tag) await this.storage.ensureNoTag(volumeOf(source.tag), storageTag(source.tag.id));
      throw error;
    });
    if (deep) this.flattener.start(disk.id);
    return made;
  }

  private async record(sql: Sql, request: RequestOf<typeof diskCreate>): Promise<{ disk: DiskRow; source: Source }> {
    const { diskId, project, name, from, sizeBytes } = request;
    const known = await this.disks.locked(sql, diskId, project);
    const source =
      from.kind === 'image' ? await this.image(sql, from.image, project, known) : await this.tag(sql, request, known);
    if (known) return { disk: known, source };
    const size = roundUp(sizeBytes ?? source.sizeBytes);
    if (size < source.sizeBytes)
      throw new M2Error('disk.too_small', `Its source has ${source.sizeBytes} bytes, and it was to have ${sizeBytes}`);
    const limit = this.kit.config.maxCloneDepth * 2;
    if (source.depth > limit) throw new M2Error('disk.too_deep', `It would be clone number ${source.depth} of a chain`);
    await assertQuota(sql, project, { bytes: size, disks: 1 });
    const disk: Omit<DiskRow, 'createdAt'> = {
      id: diskId,
      project,
      name,
      state: 'creating',
      image: source.image,
      parentTag: source.parentTag,
      fork: from.kind === 'disk' ? { disk: from.disk, tag: source.parentTag as string } : null,
      depth: source.depth,
      volume: await newVolumeName(sql),
      sizeBytes: size,
      holder: null,
      growsTo: null,
      flattening: null,
      trashedAt: null,
    };
    try {
      // Not now(): the tag that it is made from may be of the same transaction, and comes first.
      const [row] = await sql.query<Pick<DiskRow, 'createdAt'>>(
        `INSERT INTO disks (id, project, name, state, volume, image, parent_tag, depth, size_bytes, created_at)
         VALUES ($1, $2, $3, 'creating', $4, $5, $6, $7, $8, clock_timestamp()) RETURNING created_at AS "createdAt"`,
        [diskId, project, name, disk.volume, disk.image, disk.parentTag, disk.depth, size],
      );
      return { disk: { ...disk, ...row! }, source };
    } catch (error) {
      if (violatesUnique(error, 'disks_name')) throw new M2Error('disk.exists', `There is a disk "${name}" already`);
      throw error;
    }
  }

  /** The share lock on the image's row keeps the image from being deleted before the clone is recorded. */
  private async image(sql: Sql, image: string, project: string, known: DiskRow | undefined): Promise<Source> {
    const [row] = await sql.query<{ volume: string; state: string; size: number; name: string }>(
      `SELECT volume, state, name, size_bytes::float8 AS size FROM images
       WHERE id = $1 AND (project = $2 OR ${visibleTo(2)} OR $3) FOR SHARE`,
      // A disk that was begun is finished, even when its image is not shared any more.
      [image, project, known?.image === image],
    );
    if (!row) throw new M2Error('image.not_found', `There is no image ${image} in this project`);
    if (!known && row.state !== 'ready')
      throw new M2Error('image.not_ready', `The image "${row.name}" is ${row.state}`);
    return { origin: { golden: row.volume }, sizeBytes: row.size, depth: 1, image, parentTag: null };
  }

  /** A fork is made from a tag, or from the disk as it is now, which gets a tag for that. */
  private async tag(
    sql: Sql,
    { diskId, project, name, from }: RequestOf<typeof diskCreate>,
    known: DiskRow | undefined,
  ): Promise<Source> {
    if (from.kind !== 'disk') throw new Error('only a disk is forked');
    if (known?.parentTag) return sourceOf((await this.tags.locked(sql, known.parentTag, 'SHARE'))!);
    if (from.tag) {
      const tag = await this.tags.usable(sql, from.tag, from.disk, project);
      if (tag.state !== 'ready') throw new M2Error('tag.not_found', `The tag "${tag.name}" is ${tag.state}`);
      return sourceOf(tag);
    }
    const disk = await this.disks.ready(sql, from.disk, project);
    const tagName = `fork-${name}`.slice(0, 50).replace(/[^a-z0-9]+$/, '') + `-${diskId.slice(-12)}`;
    return sourceOf(await this.tags.record(sql, disk, { id: automaticTagId(diskId), name: tagName, automatic: true }));
  }

  @Handles(diskUpdate)
  async update({ diskId, project, name, sizeBytes }: RequestOf<typeof diskUpdate>, effect: Effect): Promise<Disk> {
    const size = sizeBytes === undefined ? undefined : roundUp(sizeBytes);
    try {
      if (size !== undefined) await this.growth.grow(effect, diskId, project, size);
      return await effect.commit(async (sql, emit) => {
        const row = await this.disks.ready(sql, diskId, project);
        const updated = { ...row, name: name ?? row.name, sizeBytes: size ?? row.sizeBytes };
        await sql.query('UPDATE disks SET name = $2 WHERE id = $1', [diskId, updated.name]);
        if (size !== undefined) await this.growth.record(sql, diskId, size);
        emit(
          diskUpdated,
          { id: diskId, project, name: updated.name, sizeBytes: updated.sizeBytes },
          { entity: diskId, project },
        );
        return toDisk(updated);
      });
    } catch (error) {
      const failure = violatesUnique(error, 'disks_name')
        ? new M2Error('disk.exists', `There is a disk "${name}" already`)
        : error;
      // What may be tried again stays as it was begun.
      if (size !== undefined && !M2Error.from(failure).retryable) await this.settle(effect, diskId);
      throw failure;
    }
  }

  private async settle(effect: Effect, diskId: string): Promise<void> {
    await this.growth.settle(effect, diskId).catch((error: unknown) => {
      this.kit.log.warn(
        { err: error, disk: diskId },
        'it is not known how large a disk is; the housekeeping asks again',
      );
    });
  }

  @Handles(diskDelete)
  async delete({ diskId, project, purge }: RequestOf<typeof diskDelete>, effect: Effect) {
    const disk = await effect.transaction(async (sql) => {
      const row = await this.disks.locked(sql, diskId, project);
      if (!row) return undefined;
      // A disk that was never completed cannot be restored, so it does not go to the trash.
      const remove = purge || row.state === 'creating' || row.state === 'deleting';
      if (remove || row.state === 'ready') assertFree(row);
      if (remove) await this.remover.begin(sql, row);
      // Refused before anything is done, as far as that is known now; `trash` checks again.
      else if (row.state === 'ready') await this.remover.assertUnused(sql, row);
      return { ...row, remove };
    });
    if (!disk) return effect.commit(async () => ({}));
    if (!disk.remove) {
      await effect.commit((sql, emit) => this.trash(sql, emit, diskId, project));
      await this.flattener.stop(diskId);
      return {};
    }
    await this.flattener.stop(diskId);
    await this.remover.finish(effect, disk);
    return {};
  }

  /** One transaction checks and changes: between two transactions a node could claim the disk, or somebody could fork it. */
  private async trash(sql: Sql, emit: Emit, diskId: string, project: string) {
    const row = await this.disks.locked(sql, diskId, project);
    if (row?.state !== 'ready') return {};
    assertFree(row);
    await this.disks.assertSettled(sql, row);
    await this.remover.assertUnused(sql, row);
    await sql.query(
      `UPDATE disks SET state = 'trashed', trashed_at = now(), flattening = NULL WHERE id = $1 AND state = 'ready'`,
      [diskId],
    );
    emit(diskTrashed, { id: diskId, project, name: row.name }, { entity: diskId, project });
    return {};
  }

  @Handles(diskRestore)
  async restore({ diskId, project, name }: RequestOf<typeof diskRestore>, effect: Effect): Promise<Disk> {
    try {
      return await effect.commit(async (sql, emit) => {
        const row = await this.disks.locked(sql, diskId, project);
        if (!row) throw new M2Error('disk.not_found', `There is no disk ${diskId} in this project`);
        if (row.state !== 'trashed') throw new M2Error('disk.not_ready', `The disk "${row.name}" is ${row.state}`);
        const restored = { ...row, state: 'ready' as const, name: name ?? row.name, trashedAt: null };
        await sql.query(
          `UPDATE disks SET state = 'ready', name = $2, trashed_at = NULL WHERE id = $1 AND state = 'trashed'`,
          [diskId, restored.name],
        );
        emit(diskRestored, { id: diskId, project, name: restored.name }, { entity: diskId, project });
        return toDisk(restored);
      });
    } catch (error) {
      if (violatesUnique(error, 'disks_name'))
        throw new M2Error('disk.exists', 'Another disk has its name by now. Restore it under a new one');
      throw error;
    }
  }
}

const sourceOf = (tag: TagRow): Source => ({
  origin: originOf(tag),
  sizeBytes: tag.sizeBytes,
  depth: tag.depth + 1,
  image: null,
  parentTag: tag.id,
  ...(tag.state === 'creating' && { tag }),
});
