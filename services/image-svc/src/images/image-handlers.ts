import {
  type Image,
  imageDelete,
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
import { DiskStore } from '../disks/disk-store.js';
import { automaticTagId, storageTag, type TagRow, TagStore, volumeOf } from '../disks/tag-store.js';
import { assertQuota } from '../quotas/quotas.js';
import { assertForeign } from '../volumes/foreign-volumes.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { ImageRemover } from './image-remover.js';
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
    @Inject(ImageRemover) private readonly remover: ImageRemover,
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

  /** This only records the request. The importer does the work, also after a restart of the service. */
  @Handles(imageImport)
  async import(request: RequestOf<typeof imageImport>, effect: Effect): Promise<Image> {
    const { image, tag } = await effect.transaction((sql) => this.record(sql, request));
    // The disk is tagged now, not when the import's turn comes: the image has the content of this moment.
    if (tag) await this.storage.ensureTag(volumeOf(tag), storageTag(tag.id));
    const recorded = effect.commit(async (sql) => {
      if (tag && !(await this.tags.markReady(sql, tag.id)))
        throw new M2Error('image.not_found', `The image "${image.name}" was deleted while it was being created`);
      return toImage(image, request.project);
    });
    await recorded.catch(async (error: unknown) => {
      // The command that deleted the image may not have found the tag yet.
      if (tag && M2Error.from(error).code === 'image.not_found')
        await this.storage.ensureNoTag(volumeOf(tag), storageTag(tag.id));
      throw error;
    });
    this.importer.start(request.imageId);
    return recorded;
  }

  /** `tag` is set when it has to be created first. */
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
    // After the lock on the source, in the same order as everywhere else: the other order would deadlock.
    await assertQuota(sql, project, { images: 1 });
    const image: Omit<ImageRow, 'createdAt'> = {
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
    };
    try {
      // Not now(): the tag that it is made from may be of the same transaction, and comes first.
      const [row] = await sql.query<Pick<ImageRow, 'createdAt'>>(
        `INSERT INTO images (id, project, name, state, volume, source, declared_format, declared_sha256, metadata, from_image,
           from_tag, created_at) VALUES ($1, $2, $3, 'importing', $4, $5, $6, $7, $8, $9, $10, clock_timestamp())
         RETURNING created_at AS "createdAt"`,
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
        ],
      );
      return { image: { ...image, ...row! }, ...(fromTag?.state === 'creating' && { tag: fromTag }) };
    } catch (error) {
      if (violatesUnique(error, 'images_name'))
        throw new M2Error('image.exists', `There is an image "${name}" already`);
      throw error;
    }
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

  @Handles(imageDelete)
  async delete({ imageId, project }: RequestOf<typeof imageDelete>, effect: Effect) {
    await this.remover.remove(effect, imageId, project);
    return {};
  }
}
