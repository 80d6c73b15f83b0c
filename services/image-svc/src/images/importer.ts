import { imageImported, imageImportFailed, type Image, M2Error, shown, type StoredSource } from '@m2/contracts';
import { isConnectionError, type Kit, KIT, type Lease } from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Background, throttled } from '../background/background.js';
import type { GoldenSource, LongWork, StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import type { ImageConfig } from '../config.js';
import { TagRemover } from '../disks/tag-remover.js';
import { originOf, TagStore } from '../disks/tag-store.js';
import { assertQuota } from '../quotas/quotas.js';
import { foreignError } from '../volumes/foreign-volumes.js';
import { TransferDoor } from '../transfers/transfer-door.js';
import { type Staged, Staging } from './staging.js';

interface Job {
  id: string;
  project: string;
  name: string;
  volume: string;
  source: StoredSource;
  declared_format: Image['format'];
  declared_sha256: string | null;
  from_image: string | null;
  from_tag: string | null;
}

interface Stored {
  format: NonNullable<Image['format']>;
  sizeBytes: number;
  sha256: string | null;
}

/** Creates golden images from all sources. An import survives the service: whatever is recorded as importing is started again. */
@Injectable()
export class Importer implements OnModuleInit, BeforeApplicationShutdown {
  private readonly background: Background;

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(Staging) private readonly staging: Staging,
    @Inject(TransferDoor) private readonly door: TransferDoor,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(TagRemover) private readonly remover: TagRemover,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.background = new Background(kit, {
      name: 'import',
      concurrency: kit.config.importConcurrency,
      due: () => this.due(),
      run: (id, lease) => this.import(id, lease),
    });
    this.door.onUploaded((id) => this.start(id));
  }

  async onModuleInit(): Promise<void> {
    await this.staging.open();
    await this.background.open();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.background.close();
  }

  start(id: string): void {
    this.background.start(id);
  }

  /** Returns when this replica does not work on the import any more, and its files are removed. */
  async stop(id: string): Promise<void> {
    await this.background.stop(id);
    await this.door.forget(id);
    await this.staging.remove(id);
  }

  private async due(): Promise<string[]> {
    const rows = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM images WHERE state = 'importing' ORDER BY created_at`,
    );
    return rows.map(({ id }) => id);
  }

  private async import(id: string, lease: Lease): Promise<void> {
    const { signal } = lease;
    const [job] = await this.kit.database.query<Job & Record<string, unknown>>(
      `SELECT * FROM images WHERE id = $1 AND state = 'importing'`,
      [id],
    );
    if (!job) return;
    try {
      const stored = await this.make(job, signal);
      if (!stored) return;
      const gone = await this.kit.transact(async (sql, emit) => {
        await lease.assertHeld(sql);
        const rows = await sql.query(
          `UPDATE images SET state = 'ready', format = $2, size_bytes = $3, sha256 = $4, progress = NULL, from_image = NULL,
             from_tag = NULL WHERE id = $1 AND state = 'importing' RETURNING id`,
          [id, stored.format, stored.sizeBytes, stored.sha256],
        );
        const { project, name } = job;
        const { sizeBytes, sha256 } = stored;
        if (rows.length > 0) emit(imageImported, { id, project, name, sizeBytes, sha256 }, { entity: id, project });
        return (await sql.query(`SELECT 1 FROM images WHERE id = $1 AND state <> 'deleting'`, [id])).length === 0;
      });
      // Another replica deleted the image and could not stop this one, so the volume has no owner.
      if (gone) await this.storage.ensureNoGolden(job.volume);
      await this.leave(job);
    } catch (error) {
      // A lost database connection says nothing about the image. The import is started again.
      if (isConnectionError(error)) throw error;
      // The service stops, or the image is being deleted. Neither is a failure of the import.
      if (signal.aborted) return;
      // The storage is down for a while: do not throw away hours of downloading.
      if (isPassing(error)) throw error;
      await this.fail(job, lease, M2Error.from(error));
    }
  }

  /** Returns undefined when the source is not there yet. */
  private async make(job: Job, signal: AbortSignal): Promise<Stored | undefined> {
    const { source } = job;
    switch (source.kind) {
      case 'file':
      case 'url':
        return this.fetch(job, source, signal);
      case 'upload': {
        const upload = await this.door.uploaded(job.id);
        if (!upload) return undefined;
        const wanted = { format: job.declared_format, sha256: job.declared_sha256 };
        const staged = await this.staging.adopt(upload, wanted, { signal, onProgress: this.reporter(job.id, 'check') });
        return this.store(job, staged, signal);
      }
      case 'volume':
        return this.copy(job, { foreign: source.volume }, signal).catch((error: unknown) => {
          throw foreignError(error);
        });
      case 'image': {
        const [image] = await this.kit.database.query<{ volume: string; size: number }>(
          'SELECT volume, size_bytes::float8 AS size FROM images WHERE id = $1',
          [job.from_image],
        );
        if (!image) throw new M2Error('image.not_found', `The image ${source.image} is gone`);
        await this.reserve(job, image.size);
        return this.copy(job, { golden: image.volume }, signal);
      }
      case 'disk': {
        const tag = job.from_tag ? await this.tags.locked(this.kit.database, job.from_tag, 'SHARE') : undefined;
        if (!tag) throw new M2Error('tag.not_found', 'The tag that the image was to be made from is gone');
        // The service died before it created the tag. The command comes again, creates it, and starts the import.
        if (tag.state === 'creating') return undefined;
        await this.reserve(job, tag.sizeBytes);
        return this.copy(job, originOf(tag), signal);
      }
    }
  }

  private async fetch(
    job: Job,
    source: Extract<StoredSource, { kind: 'file' | 'url' }>,
    signal: AbortSignal,
  ): Promise<Stored> {
    const wanted = { format: job.declared_format, sha256: job.declared_sha256 };
    try {
      const staged = await this.staging.fetch(job.id, source, wanted, {
        signal,
        onProgress: this.reporter(job.id, 'fetch'),
      });
      const stored = await this.store(job, staged, signal);
      await this.staging.remove(job.id);
      return stored;
    } catch (error) {
      // A stopped download goes on after the restart.
      if (!signal.aborted && !isPassing(error)) await this.staging.remove(job.id);
      throw error;
    }
  }

  private async store(job: Job, { path, format, sizeBytes, sha256 }: Staged, signal: AbortSignal): Promise<Stored> {
    await this.reserve(job, sizeBytes);
    const stored = await this.storage.ensureGolden(job.volume, { path, format }, this.options(job.id, signal));
    return { format, sizeBytes: stored.sizeBytes, sha256 };
  }

  private async copy(job: Job, source: GoldenSource, signal: AbortSignal): Promise<Stored> {
    const stored = await this.storage.ensureGolden(job.volume, source, this.options(job.id, signal));
    // The size of a foreign volume is known only now.
    await this.reserve(job, stored.sizeBytes);
    return { format: 'raw', sizeBytes: stored.sizeBytes, sha256: null };
  }

  /** Reserves the image's size in the project's quota before it is stored. Throws M2Error `quota.exceeded`. */
  private async reserve({ id, project }: Job, sizeBytes: number): Promise<void> {
    await this.kit.database.transaction(async (sql) => {
      const [image] = await sql.query<{ reserved: number }>(
        `SELECT coalesce(size_bytes, 0)::float8 AS reserved FROM images WHERE id = $1 AND state = 'importing' FOR UPDATE`,
        [id],
      );
      if (!image) return;
      // Before a restart of the service, the source may have been smaller.
      await assertQuota(sql, project, { bytes: Math.max(0, sizeBytes - image.reserved) });
      await sql.query('UPDATE images SET size_bytes = $2 WHERE id = $1', [id, sizeBytes]);
    });
  }

  private options(id: string, signal: AbortSignal): LongWork {
    return { signal, onProgress: this.reporter(id, 'store') };
  }

  private reporter(id: string, phase: 'fetch' | 'check' | 'store') {
    return throttled((done, total) => {
      this.kit.database
        .query(`UPDATE images SET progress = $2 WHERE id = $1 AND state = 'importing'`, [
          id,
          JSON.stringify({ phase, done, total }),
        ])
        .catch((error: unknown) => this.kit.log.debug({ err: error }, 'progress was not recorded'));
    });
  }

  /** Removes what only the import needed. */
  private async leave({ id, from_tag }: Job): Promise<void> {
    await this.door.forget(id);
    if (from_tag) await this.remover.release(from_tag);
  }

  private async fail(job: Job, lease: Lease, error: M2Error): Promise<void> {
    const { id, project, name, volume } = job;
    const told = shown(error.toValue());
    this.kit.log.info({ err: error, image: id, code: error.code }, 'an import failed');
    // Whoever has taken it over may be writing the volume.
    await lease.assertHeld(this.kit.database);
    await this.storage.ensureNoGolden(volume).catch((cause: unknown) => {
      this.kit.log.warn(
        { err: cause, volume },
        'what a failed import left could not be removed; it is removed with its image',
      );
    });
    await this.kit.transact(async (sql, emit) => {
      await lease.assertHeld(sql);
      const rows = await sql.query(
        `UPDATE images SET state = 'failed', error = $2, progress = NULL, size_bytes = NULL, from_image = NULL, from_tag = NULL
         WHERE id = $1 AND state = 'importing' RETURNING id`,
        [id, JSON.stringify(told)],
      );
      if (rows.length > 0) emit(imageImportFailed, { id, project, name, error: told }, { entity: id, project });
    });
    await this.leave(job);
  }
}

const isPassing = (error: unknown) => {
  const { code, retryable } = M2Error.from(error);
  return retryable && code.startsWith('storage.');
};
