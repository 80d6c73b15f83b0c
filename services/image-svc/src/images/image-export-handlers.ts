import {
  type ImageExport,
  imageExportCancel,
  imageExportShow,
  imageExportStart,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT, type Sql } from '@m2/service-kit';
import type { StorageBackend } from '@m2/storage';
import { Controller, Inject } from '@nestjs/common';
import type { ImageConfig } from '../config.js';
import { STORAGE } from '../storage/storage.token.js';
import { assertForeign } from '../volumes/foreign-volumes.js';
import { finishRemoval } from '../volumes/removal.js';
import { Exporter } from './exporter.js';
import { ImageStore } from './image-store.js';

const columns = 'id, project, image, volume, state, progress, error';

@Controller()
export class ImageExportHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
    @Inject(Exporter) private readonly exporter: Exporter,
  ) {}

  @Answers(imageExportShow)
  async show({ exportId, project }: RequestOf<typeof imageExportShow>): Promise<ImageExport> {
    const row = await this.row(this.kit.database, exportId, project);
    if (!row) throw new M2Error('image.export_not_found', `There is no export ${exportId}`);
    return row;
  }

  @Handles(imageExportStart)
  async request(request: RequestOf<typeof imageExportStart>, effect: Effect): Promise<ImageExport> {
    const { exportId, project, image, volume } = request;
    assertForeign(this.kit.config.foreignVolumes, volume);
    const { id } = await this.images.row(image, project);
    const row = await effect.commit(async (sql) => {
      // The lock keeps the image from being deleted before its export is recorded.
      const [source] = await sql.query<{ name: string; state: string }>(
        'SELECT name, state FROM images WHERE id = $1 FOR SHARE',
        [id],
      );
      if (!source) throw new M2Error('image.not_found', `There is no image ${image}`);
      if (source.state !== 'ready')
        throw new M2Error('image.not_ready', `The image "${source.name}" is ${source.state}`);
      await sql.query(
        `INSERT INTO image_exports (id, project, image, volume, state) VALUES ($1, $2, $3, $4, 'running') ON CONFLICT (id) DO NOTHING`,
        [exportId, project, id, volume],
      );
      return (await this.row(sql, exportId, project))!;
    });
    this.exporter.start(exportId);
    return row;
  }

  @Handles(imageExportCancel)
  async cancel({ exportId, project }: RequestOf<typeof imageExportCancel>, effect: Effect) {
    // The state goes first: what is stopped must not be started again.
    const [job] = await effect.query<{ volume: string }>(
      `UPDATE image_exports SET state = 'failed' WHERE id = $1 AND project = $2 AND state <> 'done' RETURNING volume`,
      [exportId, project],
    );
    await this.exporter.stop(exportId);
    if (!job) return effect.commit(async () => ({}));
    await finishRemoval(effect, {
      // The volume may be complete: the service may have died before it recorded that.
      destroy: () => this.storage.ensureNoForeign(job.volume, exportId),
      forget: async (sql) => void (await sql.query('DELETE FROM image_exports WHERE id = $1', [exportId])),
    });
    return {};
  }

  private async row(sql: Sql, id: string, project: string): Promise<ImageExport | undefined> {
    const [row] = await sql.query<ImageExport>(`SELECT ${columns} FROM image_exports WHERE id = $1 AND project = $2`, [
      id,
      project,
    ]);
    return row;
  }
}
