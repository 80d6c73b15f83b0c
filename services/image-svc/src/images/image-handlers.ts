import { imageDelete, imageDeleted, imageImport, imageList, imageShow, M2Error, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '../backends/storage.port.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { ImageStore } from './image-store.js';
import { Importer } from './importer.js';
import { STORAGE } from '../backends/storage.token.js';

@Injectable()
export class ImageHandlers {
  constructor(
    @Inject(ImageStore) private readonly images: ImageStore,
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
  async import(request: RequestOf<typeof imageImport>, effect: Effect) {
    const { imageId, project, name, source, format, sha256 } = request;
    try {
      const image = await effect.commit(async (sql) => {
        const createdAt = new Date();
        await sql.query(
          `INSERT INTO images (id, project, name, state, volume, source, declared_format, declared_sha256, created_at)
           VALUES ($1, $2, $3, 'importing', $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
          [
            imageId,
            project,
            name,
            await newVolumeName(sql),
            JSON.stringify(source),
            format ?? null,
            sha256 ?? null,
            createdAt,
          ],
        );
        const nothing = { format: null, sizeBytes: null, sha256: null, progress: null, error: null };
        return {
          id: imageId,
          project,
          name,
          state: 'importing' as const,
          createdAt: createdAt.toISOString(),
          ...nothing,
        };
      });
      this.importer.start(imageId);
      return image;
    } catch (error) {
      if (violatesUnique(error, 'images_name'))
        throw new M2Error('image.exists', `There is an image "${name}" already`);
      throw error;
    }
  }

  /**
   * The row says first that the image is on its way out, so that nobody clones it any more and a running import stops; then the volume
   * goes, then the row. A disk that was cloned before is found by its foreign key, whatever the race.
   */
  @Handles(imageDelete)
  async delete({ imageId, project }: RequestOf<typeof imageDelete>, effect: Effect) {
    const [image] = await effect.transaction(async (sql) => {
      const rows = await sql.query<{ name: string; volume: string; state: string }>(
        'SELECT name, volume, state FROM images WHERE id = $1 AND project = $2 FOR UPDATE',
        [imageId, project],
      );
      if (rows.length === 0) return [];
      const disks = await sql.query<{ name: string }>('SELECT name FROM disks WHERE image = $1 ORDER BY name LIMIT 5', [
        imageId,
      ]);
      if (disks.length > 0)
        throw new M2Error(
          'image.in_use',
          `Disks of the image "${rows[0]!.name}": ${disks.map((disk) => disk.name).join(', ')}`,
        );
      await sql.query(`UPDATE images SET state = 'deleting' WHERE id = $1`, [imageId]);
      return rows;
    });
    if (image) {
      await this.importer.stop(imageId);
      await this.storage.ensureNoVolume(image.volume);
    }
    return effect.commit(async (sql, emit) => {
      if (!image) return {};
      await sql.query('DELETE FROM images WHERE id = $1', [imageId]);
      emit(imageDeleted, { id: imageId, project, name: image.name }, { entity: imageId, project });
      return {};
    });
  }
}
