import {
  type Image,
  imageDelete,
  imageDeleted,
  imageImport,
  imageList,
  imageShow,
  imageUpdate,
  imageUpdated,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT, type Sql, violatesUnique } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { DiskRemover } from '../disks/disk-remover.js';
import { DiskStore } from '../disks/disk-store.js';
import { automaticTagId, storageTag, type TagRow, TagStore, volumeOf } from '../disks/tag-store.js';
import { assertQuota } from '../quotas/quotas.js';
import { assertForeign } from '../volumes/foreign-volumes.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { type ImageRow, toImage } from './image-row.js';
import { ImageStore } from './image-store.js';
import { Importer } from './importer.js';

const noMetadata: Image['metadata'] = {
  operatingSystem: null,
  architecture: null,
  defaultUser: null,
  userData: false,
};

@Controller()
export class ImageHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(DiskRemover) private readonly remover: DiskRemover,
    @Inject(Importer) private readonly importer: Importer,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Answers(imageShow)
  show({ image, project }: RequestOf<typeof imageShow>) {
    return this.images.find(image, project);
  }

  @Answers(imageList)
  list(filter: RequestOf<typeof imageList>) {
    return this.images.list(filter);
  }

  /** Only the wish is on record when this answers; the importer carries it out, in this life of the service or the next. */
  @Handles(imageImport)
  async import(request: RequestOf<typeof imageImport>, effect: Effect): Promise<Image> {
    const { image, tag } = await effect.transaction((sql) => this.record(sql, request));
    // A disk is kept as it is when somebody asks, not when its turn has come.
    if (tag) await this.storage.ensureTag(volumeOf(tag), storageTag(tag.id));
    const answer = await effect.commit(async (sql) => {
      if (tag) await sql.query(`UPDATE tags SET state = 'ready' WHERE id = $1`, [tag.id]);
      return toImage(image, request.project);
    });
    this.importer.start(request.imageId);
    return answer;
  }

  /** `tag`: one that has to be made first. */
  private async record(
    sql: Sql,
    { imageId, project, name, source, format, sha256, metadata }: RequestOf<typeof imageImport>,
  ): Promise<{ image: ImageRow; tag?: TagRow }> {
    const known = await this.images.locked(sql, imageId, project);
    if (known) {
      const tag = await this.tags.locked(sql, automaticTagId(imageId), 'SHARE');
      return { image: known, ...(tag?.state === 'creating' && { tag }) };
    }
    if (source.kind === 'volume') assertForeign(this.kit.config.foreignVolumes, source.volume);
    const fromImage = source.kind === 'image' ? await this.copied(sql, source) : null;
    const fromTag = source.kind === 'disk' ? await this.snapshot(sql, imageId, project, source) : null;
    // After what it is made of is locked, in the order of all others: the other way round, two would wait for each other.
    await assertQuota(sql, project, { images: 1 });
    const image: ImageRow = {
      id: imageId,
      project,
      name,
      state: 'importing',
      volume: await newVolumeName(sql),
      source,
      format: null,
      sizeBytes: null,
      sha256: null,
      visibility: 'private',
      sharedWith: [],
      metadata: { ...noMetadata, ...metadata },
      progress: null,
      error: null,
      createdAt: new Date(),
    };
    try {
      await sql.query(
        `INSERT INTO images (id, project, name, state, volume, source, declared_format, declared_sha256, metadata, from_image,
           from_tag, created_at) VALUES ($1, $2, $3, 'importing', $4, $5, $6, $7, $8, $9, $10, $11)`,
        [
          imageId,
          project,
          name,
          image.volume,
          JSON.stringify(source),
          format ?? null,
          sha256 ?? null,
          JSON.stringify(image.metadata),
          fromImage,
          fromTag?.id ?? null,
          image.createdAt,
        ],
      );
    } catch (error) {
      if (violatesUnique(error, 'images_name'))
        throw new M2Error('image.exists', `There is an image "${name}" already`);
      throw error;
    }
    return { image, ...(fromTag?.state === 'creating' && { tag: fromTag }) };
  }

  private async copied(sql: Sql, source: { image: string; project: string }): Promise<string> {
    const [row] = await sql.query<{ name: string; state: string }>(
      'SELECT name, state FROM images WHERE id = $1 AND project = $2 FOR SHARE',
      [source.image, source.project],
    );
    if (!row) throw new M2Error('image.not_found', `There is no image ${source.image}`);
    if (row.state !== 'ready') throw new M2Error('image.not_ready', `The image "${row.name}" is ${row.state}`);
    return source.image;
  }

  private async snapshot(
    sql: Sql,
    imageId: string,
    project: string,
    source: { disk: string; tag?: string | undefined },
  ): Promise<TagRow> {
    if (source.tag) {
      const tag = await this.tags.usable(sql, source.tag, source.disk, project);
      if (tag.state !== 'ready') throw new M2Error('tag.not_found', `The tag "${tag.name}" is ${tag.state}`);
      return tag;
    }
    const disk = await this.disks.ready(sql, source.disk, project);
    return this.tags.record(sql, disk, {
      id: automaticTagId(imageId),
      name: `image-${imageId}`,
      automatic: true,
    });
  }

  @Handles(imageUpdate)
  async update(request: RequestOf<typeof imageUpdate>, effect: Effect): Promise<Image> {
    const { imageId, project, metadata, toProject } = request;
    try {
      return await effect.commit(async (sql, emit) => {
        const row = await this.images.locked(sql, imageId, project);
        if (!row || row.state === 'deleting') throw new M2Error('image.not_found', `There is no image ${imageId}`);
        const moves = toProject !== undefined && toProject !== project;
        if (moves && row.state !== 'ready')
          throw new M2Error('image.not_ready', `The image "${row.name}" is ${row.state}`);
        if (moves) await assertQuota(sql, toProject, { images: 1, bytes: row.sizeBytes ?? 0 });
        const visibility = request.visibility ?? (request.sharedWith ? 'shared' : row.visibility);
        const updated: ImageRow = {
          ...row,
          project: toProject ?? project,
          name: request.name ?? row.name,
          visibility,
          sharedWith: visibility === 'shared' ? [...new Set(request.sharedWith ?? row.sharedWith)] : [],
          metadata: { ...row.metadata, ...metadata },
        };
        await sql.query(
          'UPDATE images SET project = $2, name = $3, visibility = $4, shared_with = $5, metadata = $6 WHERE id = $1',
          [imageId, updated.project, updated.name, visibility, updated.sharedWith, JSON.stringify(updated.metadata)],
        );
        const { name, sharedWith } = updated;
        const data = { id: imageId, project: updated.project, name, visibility, sharedWith };
        emit(imageUpdated, data, { entity: imageId, project: updated.project });
        return toImage(updated, updated.project);
      });
    } catch (error) {
      if (violatesUnique(error, 'images_name'))
        throw new M2Error('image.exists', `There is an image "${request.name ?? 'of this name'}" already`);
      throw error;
    }
  }

  /**
   * The row says first that the image is on its way out, so that nobody clones it any more and a running import stops; then the volume
   * goes, then the row. A disk that was cloned before is found by its foreign key, whatever the race.
   */
  @Handles(imageDelete)
  async delete({ imageId, project }: RequestOf<typeof imageDelete>, effect: Effect) {
    const image = await effect.transaction(async (sql) => {
      const row = await this.images.locked(sql, imageId, project);
      if (!row) return undefined;
      const users = await this.users(sql, imageId, project);
      if (users.length > 0)
        throw new M2Error('image.in_use', `The image "${row.name}" is in use by ${users.join(', ')}`);
      const [{ tag } = { tag: null }] = await sql.query<{ tag: string | null }>(
        `UPDATE images SET state = 'deleting' WHERE id = $1 RETURNING from_tag AS tag`,
        [imageId],
      );
      return { ...row, tag };
    });
    if (!image) return effect.commit(async () => ({}));
    await this.importer.stop(imageId);
    try {
      await this.storage.ensureNoGolden(image.volume);
    } catch (error) {
      // Somebody reads it at this moment: it stays as it is.
      if (M2Error.from(error).code === 'storage.in_use' && image.state === 'ready')
        await effect.query(`UPDATE images SET state = 'ready' WHERE id = $1 AND state = 'deleting'`, [imageId]);
      throw error;
    }
    await effect.commit(async (sql, emit) => {
      await sql.query('DELETE FROM image_exports WHERE image = $1', [imageId]);
      await sql.query('DELETE FROM images WHERE id = $1', [imageId]);
      emit(imageDeleted, { id: imageId, project, name: image.name }, { entity: imageId, project });
      return {};
    });
    if (image.tag) await this.remover.releaseTag(image.tag);
    return {};
  }

  /** In words; those of other projects are counted, and not named. */
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
