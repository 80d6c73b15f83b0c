import { imageExported, M2Error, shown } from '@m2/contracts';
import { isConnectionError, type Kit, KIT, type Lease } from '@m2/service-kit';
import type { StorageBackend } from '@m2/storage';
import { type BeforeApplicationShutdown, Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { Background, throttled } from '../background/background.js';
import type { ImageConfig } from '../config.js';
import { STORAGE } from '../storage/storage.token.js';
import { foreignError } from '../volumes/foreign-volumes.js';

const concurrency = 2;

/** Writes images to volumes of the storage that M2 does not own, in the background. */
@Injectable()
export class Exporter implements OnModuleInit, BeforeApplicationShutdown {
  private readonly background: Background;

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.background = new Background(kit, {
      name: 'image export',
      concurrency,
      due: () => this.due(),
      run: (id, lease) => this.export(id, lease),
    });
  }

  onModuleInit(): Promise<void> {
    return this.background.open();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.background.close();
  }

  start(exportId: string): void {
    this.background.start(exportId);
  }

  /** Returns when no job of this service works on it any more. */
  stop(exportId: string): Promise<void> {
    return this.background.stop(exportId);
  }

  private async due(): Promise<string[]> {
    const rows = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM image_exports WHERE state = 'running' ORDER BY created_at`,
    );
    return rows.map(({ id }) => id);
  }

  private async export(id: string, lease: Lease): Promise<void> {
    const cancelled = new AbortController();
    const signal = AbortSignal.any([lease.signal, cancelled.signal]);
    const [job] = await this.kit.database.query<{
      project: string;
      image: string;
      name: string;
      golden: string;
      volume: string;
    }>(
      `SELECT e.project, e.volume, i.id AS image, i.name, i.volume AS golden FROM image_exports e JOIN images i ON i.id = e.image
       WHERE e.id = $1 AND e.state = 'running'`,
      [id],
    );
    if (!job) return;
    const { project, image, name, golden, volume } = job;
    try {
      const onProgress = throttled(async (done, total) => {
        if (!(await this.tell(id, done, total)))
          cancelled.abort(new M2Error('storage.aborted', 'The export was cancelled'));
      });
      await this.storage.copyToForeign({ golden }, volume, { key: id, signal, onProgress });
      const isDone = await this.kit.transact(async (sql, emit) => {
        await lease.assertHeld(sql);
        const rows = await sql.query(
          `UPDATE image_exports SET state = 'done', progress = NULL WHERE id = $1 AND state = 'running' RETURNING id`,
          [id],
        );
        if (rows.length > 0) emit(imageExported, { id: image, project, name, volume }, { entity: image, project });
        return (await sql.query(`SELECT FROM image_exports WHERE id = $1 AND state = 'done'`, [id])).length > 0;
      });
      if (!isDone) await this.leave(id, volume, lease);
    } catch (error) {
      if (cancelled.signal.aborted) return this.leave(id, volume, lease);
      if (isConnectionError(error)) throw error;
      if (!signal.aborted) await this.fail(id, error);
    }
  }

  /** Another replica was told to stop it, and could not stop this one: the volume has no owner. */
  private async leave(id: string, volume: string, lease: Lease): Promise<void> {
    await lease.assertHeld(this.kit.database);
    await this.storage.ensureNoForeign(volume, id);
  }

  private async fail(id: string, error: unknown): Promise<void> {
    const told = M2Error.from(foreignError(error));
    this.kit.log.info({ err: error, export: id }, 'an export of an image failed');
    await this.kit.database.query(
      `UPDATE image_exports SET state = 'failed', progress = NULL, error = $2 WHERE id = $1 AND state = 'running'`,
      [id, JSON.stringify(shown(told.toValue()))],
    );
  }

  /** Returns whether the volume is still wanted, as far as that can be known. */
  private async tell(id: string, done: number, total: number | null): Promise<boolean> {
    try {
      const rows = await this.kit.database.query(
        `UPDATE image_exports SET progress = $2 WHERE id = $1 AND state = 'running' RETURNING id`,
        [id, JSON.stringify({ phase: 'copy', done, total })],
      );
      return rows.length > 0;
    } catch (error) {
      this.kit.log.debug({ err: error }, 'progress was not recorded');
      return true;
    }
  }
}
