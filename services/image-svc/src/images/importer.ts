import { imageImported, imageImportFailed, type imageSource, M2Error, shown } from '@m2/contracts';
import { isConnectionError, type Kit, KIT, type Session } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import type { StorageBackend } from '../backends/storage.port.js';
import type { ImageConfig } from '../config.js';
import { AllowedHosts } from '../import/allowed-hosts.js';
import { inspectImage } from '../import/inspect.js';
import { fetchImage, type SourceRules } from '../import/source.js';
import { STORAGE } from '../backends/storage.token.js';

interface Job {
  id: string;
  project: string;
  name: string;
  volume: string;
  source: z.infer<typeof imageSource>;
  declared_format: 'raw' | 'qcow2' | null;
  declared_sha256: string | null;
}

const progressEveryMs = 500;
const takeUpEveryMs = 30_000;
const downloadLimits = { connectTimeoutMs: 15_000, stallTimeoutMs: 60_000, retries: 5 };

/** Carries imports out: fetch to a staging file, inspect, store. Survives the service: what is on record as importing is begun again. */
@Injectable()
export class Importer implements OnModuleInit, OnApplicationShutdown {
  private readonly jobs = new Map<string, { stop: AbortController; done: Promise<void> }>();
  private readonly waiting: string[] = [];
  private readonly staging: string;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.staging = join(kit.config.storageDirectory, 'staging');
  }

  async onModuleInit(): Promise<void> {
    await mkdir(this.staging, { recursive: true, mode: 0o700 });
    await this.takeUp();
    // A replica that died for good leaves its imports to the others.
    this.timer = setInterval(() => {
      this.takeUp().catch((error: unknown) => this.kit.log.warn({ err: error }, 'imports were not looked for'));
    }, takeUpEveryMs);
  }

  private async takeUp(): Promise<void> {
    const rows = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM images WHERE state = 'importing' ORDER BY created_at`,
    );
    for (const { id } of rows) this.start(id);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.waiting.length = 0;
    await Promise.all([...this.jobs.keys()].map((id) => this.stop(id)));
    await this.storage.close();
  }

  /** Begins an import, or lets it wait for its turn. */
  start(id: string): void {
    if (this.jobs.has(id) || this.waiting.includes(id)) return;
    if (this.jobs.size >= this.kit.config.importConcurrency) {
      this.waiting.push(id);
      return;
    }
    const stop = new AbortController();
    const done = this.run(id, stop.signal).finally(() => {
      this.jobs.delete(id);
      const next = this.waiting.shift();
      if (next) this.start(next);
    });
    this.jobs.set(id, { stop, done });
  }

  /** Returns when nothing of the import is under way any more. */
  async stop(id: string): Promise<void> {
    const at = this.waiting.indexOf(id);
    if (at >= 0) this.waiting.splice(at, 1);
    const job = this.jobs.get(id);
    job?.stop.abort(new M2Error('storage.aborted', 'The import was stopped'));
    await job?.done;
  }

  private async run(id: string, signal: AbortSignal): Promise<void> {
    let session: Session | undefined;
    try {
      session = await this.kit.database.session();
      // Another replica may have begun it already; the lock goes with its process.
      const [lock] = await session.query<{ mine: boolean }>(
        'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS mine',
        [`m2 import ${id}`],
      );
      if (lock?.mine) await this.import(id, session, signal);
    } catch (error) {
      this.kit.log.error({ err: error, image: id }, 'an import was left; it is taken up again');
    } finally {
      session?.release(true);
    }
  }

  private async import(id: string, session: Session, signal: AbortSignal): Promise<void> {
    const [job] = await session.query<Job & Record<string, unknown>>(
      `SELECT * FROM images WHERE id = $1 AND state = 'importing'`,
      [id],
    );
    if (!job) return;
    try {
      const stored = await this.fetchAndStore(job, signal);
      const gone = await this.kit.transact(async (sql, emit) => {
        const rows = await sql.query(
          `UPDATE images SET state = 'ready', format = $2, size_bytes = $3, sha256 = $4, progress = NULL
           WHERE id = $1 AND state = 'importing' RETURNING id`,
          [id, stored.format, stored.sizeBytes, stored.sha256],
        );
        const { project, name } = job;
        const { sizeBytes, sha256 } = stored;
        if (rows.length > 0) emit(imageImported, { id, project, name, sizeBytes, sha256 }, { entity: id, project });
        return (await sql.query(`SELECT 1 FROM images WHERE id = $1 AND state <> 'deleting'`, [id])).length === 0;
      });
      // Another replica deleted the image, and could not stop this one: the volume is nobody's.
      if (gone) await this.storage.ensureNoVolume(job.volume);
    } catch (error) {
      // A database that is away says nothing about the image; the import is taken up again.
      if (isConnectionError(error)) throw error;
      // The service stops, or the image is being deleted: neither is the import's failure.
      if (!signal.aborted) await this.fail(job, M2Error.from(error));
    }
  }

  private async fetchAndStore({ id, volume, source, declared_format, declared_sha256 }: Job, signal: AbortSignal) {
    const path = join(this.staging, id);
    try {
      const fetched = await fetchImage(source, path, this.rules(), {
        sha256: declared_sha256 ?? undefined,
        signal,
        onProgress: this.reporter(id, 'fetch'),
      });
      const inspected = await inspectImage(path, {
        declared: declared_format ?? undefined,
        maxVirtualBytes: this.kit.config.maxImageBytes,
        signal,
      });
      const { format } = inspected;
      const stored = await this.storage.ensureGolden(
        volume,
        { path, format },
        { signal, onProgress: this.reporter(id, 'store') },
      );
      return { format, sizeBytes: stored.sizeBytes, sha256: fetched.sha256 };
    } finally {
      await rm(path, { force: true });
    }
  }

  private rules(): SourceRules {
    const { importDirectories, importHosts, maxImageBytes } = this.kit.config;
    return {
      directories: importDirectories,
      hosts: new AllowedHosts(importHosts),
      maxBytes: maxImageBytes,
      download: downloadLimits,
    };
  }

  /** Keeps how far it is, twice a second at most. */
  private reporter(id: string, phase: 'fetch' | 'store') {
    let last = 0;
    return (done: number, total: number | undefined): void => {
      if (Date.now() - last < progressEveryMs) return;
      last = Date.now();
      const progress = JSON.stringify({ phase, done, total: total ?? null });
      this.kit.database
        .query(`UPDATE images SET progress = $2 WHERE id = $1 AND state = 'importing'`, [id, progress])
        .catch(() => {});
    };
  }

  private async fail({ id, project, name, volume }: Job, error: M2Error): Promise<void> {
    const told = shown(error.toValue());
    this.kit.log.info({ err: error, image: id, code: error.code }, 'an import failed');
    await this.storage.ensureNoVolume(volume).catch((cause: unknown) => {
      this.kit.log.warn({ err: cause, volume }, 'what a failed import left is removed with its image');
    });
    await this.kit.transact(async (sql, emit) => {
      const rows = await sql.query(
        `UPDATE images SET state = 'failed', error = $2, progress = NULL WHERE id = $1 AND state = 'importing' RETURNING id`,
        [id, JSON.stringify(told)],
      );
      if (rows.length > 0) emit(imageImportFailed, { id, project, name, error: told }, { entity: id, project });
    });
  }
}
