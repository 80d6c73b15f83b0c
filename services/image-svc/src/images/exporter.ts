import {
  type ImageExport,
  imageExportCancel,
  imageExported,
  imageExportShow,
  imageExportStart,
  M2Error,
  type RequestOf,
  shown,
} from '@m2/contracts';
import {
  Answers,
  type Effect,
  Handles,
  isConnectionError,
  type Kit,
  KIT,
  type Session,
  type Sql,
} from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Background, throttled } from '../background/background.js';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { assertForeign, foreignError } from '../volumes/foreign-volumes.js';
import { finishRemoval } from '../volumes/removal.js';
import { ImageStore } from './image-store.js';

const concurrency = 2;
const columns = 'id, project, image, volume, state, progress, error';

/** Writes images to volumes of the storage that M2 does not own. */
@Injectable()
export class Exporter implements OnModuleInit, BeforeApplicationShutdown {
  private readonly background: Background;

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.background = new Background(kit, {
      name: 'image export',
      concurrency,
      due: () => this.due(),
      run: (id, session, signal) => this.export(id, session, signal),
    });
  }

  onModuleInit(): Promise<void> {
    return this.background.open();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.background.close();
  }

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
    const { state, name } = await this.images.row(image, project);
    if (state !== 'ready') throw new M2Error('image.not_ready', `The image "${name}" is ${state}`);
    const row = await effect.commit(async (sql) => {
      await sql.query(
        `INSERT INTO image_exports (id, project, image, volume, state) VALUES ($1, $2, $3, $4, 'running') ON CONFLICT (id) DO NOTHING`,
        [exportId, project, image, volume],
      );
      return (await this.row(sql, exportId, project))!;
    });
    this.background.start(exportId);
    return row;
  }

  @Handles(imageExportCancel)
  async cancel({ exportId, project }: RequestOf<typeof imageExportCancel>, effect: Effect) {
    // The state goes first: what is stopped must not be started again.
    const [job] = await effect.query<{ volume: string }>(
      `UPDATE image_exports SET state = 'failed' WHERE id = $1 AND project = $2 AND state <> 'done' RETURNING volume`,
      [exportId, project],
    );
    await this.background.stop(exportId);
    if (!job) return effect.commit(async () => ({}));
    await finishRemoval(effect, {
      // The volume may be complete: the service may have died before it recorded that.
      destroy: () => this.storage.ensureNoForeign(job.volume, exportId),
      forget: async (sql) => void (await sql.query('DELETE FROM image_exports WHERE id = $1', [exportId])),
    });
    return {};
  }

  private async due(): Promise<string[]> {
    const rows = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM image_exports WHERE state = 'running' ORDER BY created_at`,
    );
    return rows.map(({ id }) => id);
  }

  private async row(sql: Sql, id: string, project: string): Promise<ImageExport | undefined> {
    const [row] = await sql.query<ImageExport>(`SELECT ${columns} FROM image_exports WHERE id = $1 AND project = $2`, [
      id,
      project,
    ]);
    return row;
  }

  private async export(id: string, session: Session, signal: AbortSignal): Promise<void> {
    const [job] = await session.query<{ project: string; image: string; name: string; golden: string; volume: string }>(
      `SELECT e.project, e.volume, i.id AS image, i.name, i.volume AS golden FROM image_exports e JOIN images i ON i.id = e.image
       WHERE e.id = $1 AND e.state = 'running'`,
      [id],
    );
    if (!job) return;
    const { project, image, name, golden, volume } = job;
    try {
      const onProgress = throttled((done, total) => this.tell(id, done, total));
      await this.storage.copyToForeign({ golden }, volume, { key: id, signal, onProgress });
      await this.kit.transact(async (sql, emit) => {
        const rows = await sql.query(
          `UPDATE image_exports SET state = 'done', progress = NULL WHERE id = $1 AND state = 'running' RETURNING id`,
          [id],
        );
        if (rows.length > 0) emit(imageExported, { id: image, project, name, volume }, { entity: image, project });
      });
    } catch (error) {
      if (isConnectionError(error)) throw error;
      if (!signal.aborted) await this.fail(id, error);
    }
  }

  private async fail(id: string, error: unknown): Promise<void> {
    const told = M2Error.from(foreignError(error));
    this.kit.log.info({ err: error, export: id }, 'an export of an image failed');
    await this.kit.database.query(
      `UPDATE image_exports SET state = 'failed', progress = NULL, error = $2 WHERE id = $1 AND state = 'running'`,
      [id, JSON.stringify(shown(told.toValue()))],
    );
  }

  private tell(id: string, done: number, total: number | null): void {
    this.kit.database
      .query(`UPDATE image_exports SET progress = $2 WHERE id = $1 AND state = 'running'`, [
        id,
        JSON.stringify({ phase: 'copy', done, total }),
      ])
      .catch((error: unknown) => this.kit.log.debug({ err: error }, 'progress was not recorded'));
  }
}
