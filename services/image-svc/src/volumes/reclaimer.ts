import type { Freeing } from '@m2/contracts';
import { type Kit, KIT, meter, pageWithin, Periodic, type Sql } from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { type RemovedVolume, type StorageBackend, StorageError } from '@m2/storage';
import { Background, throttled } from '../background/background.js';
import type { ImageConfig } from '../config.js';
import { STORAGE } from '../storage/storage.token.js';

/** Few at a time, because it loads the storage that nodes use. */
const concurrency = 2;
/** How often the storage is asked what else there is to free: what others removed, and what was interrupted. */
const lookEveryMs = 600_000;
const tellEveryMs = 2_000;
const endEveryMs = 30_000;

/**
 * Frees the space of removed volumes, which may take hours, and then what the storage keeps for a project that was deleted. The storage itself
 * knows what is left to do, so it goes on after any interruption.
 */
@Injectable()
export class Reclaimer implements OnModuleInit, BeforeApplicationShutdown {
  private readonly background: Background;
  private readonly known = new Map<string, RemovedVolume>();
  /** Those that something else must be freed before: what was cloned from them. */
  private readonly blocked = new Set<string>();
  private readonly looks: Periodic;
  private readonly ends: Periodic;
  private readonly gauge = meter().createGauge('m2_storage_removed_volumes', {
    description: 'Removed volumes whose space is not free yet',
  });

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.background = new Background(kit, {
      name: 'reclaim',
      concurrency,
      due: async () => [...this.known.keys()].filter((id) => !this.blocked.has(id)),
      run: (id, { signal }) => this.free(id, signal),
    });
    this.looks = new Periodic({
      everyMs: lookEveryMs,
      work: () => this.look(),
      onError: (err) => kit.log.warn({ err }, 'what is left to be freed could not be listed; it is tried again'),
    });
    this.ends = new Periodic({
      everyMs: endEveryMs,
      work: () => this.forgetProjects(),
      onError: (err) => kit.log.warn({ err }, 'deleted projects could not be read; it is tried again'),
    });
    storage.onRemoved((volume) => this.add(volume));
  }

  async onModuleInit(): Promise<void> {
    await this.background.open();
    for (const rounds of [this.looks, this.ends]) {
      rounds.start();
      rounds.wake();
    }
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([this.looks.stop(), this.ends.stop()]);
    await this.background.close();
  }

  /** The project was deleted: what the storage keeps for it goes when its last volume has. In the transaction that takes that in. */
  async endProjects(sql: Sql, projects: string[]): Promise<void> {
    await sql.query('DELETE FROM quotas WHERE project = ANY ($1)', [projects]);
    await sql.query('INSERT INTO ended_projects (project) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING', [
      projects,
    ]);
  }

  /** One page of what is not free yet, by identifier. */
  async page(cursor: string | undefined, limit: number): Promise<{ items: Freeing[]; next?: string }> {
    const removed = (await this.removed())
      .filter(({ id }) => id > (cursor ?? ''))
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .slice(0, limit + 1);
    const rows = await this.kit.database.query<{ id: string; done: number; total: number | null }>(
      'SELECT id, done::float8 AS done, total::float8 AS total FROM freeing WHERE id = ANY ($1)',
      [removed.map(({ id }) => id)],
    );
    const begun = new Map(rows.map(({ id, ...how }) => [id, { phase: 'free', ...how }]));
    return pageWithin(
      removed,
      limit,
      ({ id, name, project }) => ({ id, volume: name, project, progress: begun.get(id) ?? null }),
      ({ id }) => id,
    );
  }

  private add(volume: RemovedVolume): void {
    this.known.set(volume.id, volume);
    this.gauge.record(this.known.size);
    this.background.start(volume.id);
  }

  /** Other installations may share the storage, and free what is theirs. */
  private async removed(): Promise<RemovedVolume[]> {
    const [installation] = await this.kit.database.query<{ uid: string }>('SELECT uid FROM installation');
    const mine = new RegExp(`^${installation!.uid}img[0-9]+$`);
    return (await this.storage.removed()).filter(({ name }) => mine.test(name));
  }

  private async look(): Promise<void> {
    const removed = await this.removed();
    // Who freed it may have died before it forgot it.
    await this.kit.database.query('DELETE FROM freeing WHERE id <> ALL ($1)', [removed.map(({ id }) => id)]);
    const owned = await this.owned(removed.map(({ name }) => name));
    this.blocked.clear();
    for (const volume of removed) if (!owned.has(volume.name)) this.add(volume);
  }

  /** What somebody took away by hand, and the database still has, is a fault for a person to look at: nothing of it may be lost. */
  private async owned(volumes: string[]): Promise<Set<string>> {
    const rows = await this.kit.database.query<{ volume: string }>(
      `SELECT volume FROM images WHERE volume = ANY ($1) UNION SELECT volume FROM disks WHERE volume = ANY ($1)
       UNION SELECT volume FROM former_volumes WHERE volume = ANY ($1)`,
      [volumes],
    );
    return new Set(rows.map(({ volume }) => volume));
  }

  private async free(id: string, signal: AbortSignal): Promise<void> {
    const volume = this.known.get(id);
    if (!volume) return;
    let told = Promise.resolve();
    const onProgress = throttled((done, total) => (told = this.tell(id, done, total)), tellEveryMs);
    try {
      await this.storage.ensureFreed(volume, { signal, onProgress });
      await told;
      await this.kit.database.query('DELETE FROM freeing WHERE id = $1', [id]);
    } catch (error) {
      if (signal.aborted) return;
      // Or somebody still has it open.
      if (!(error instanceof StorageError) || error.code !== 'storage.in_use') throw error;
      this.blocked.add(id);
      return;
    }
    this.known.delete(id);
    this.gauge.record(this.known.size);
    const unblocked = [...this.blocked];
    this.blocked.clear();
    for (const other of unblocked) this.background.start(other);
    if (![...this.known.values()].some(({ project }) => project === volume.project)) this.ends.wake();
  }

  private async tell(id: string, done: number, total: number | null): Promise<void> {
    await this.kit.database
      .query(
        `INSERT INTO freeing (id, done, total) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET done = excluded.done, total = excluded.total`,
        [id, done, total],
      )
      .catch((err: unknown) => this.kit.log.debug({ err }, 'progress was not recorded'));
  }

  private async forgetProjects(): Promise<void> {
    const ended = await this.kit.database.query<{ project: string }>('SELECT project FROM ended_projects');
    for (const { project } of ended) {
      try {
        await this.storage.ensureNoProject(project);
        await this.kit.database.query('DELETE FROM ended_projects WHERE project = $1', [project]);
      } catch (error) {
        this.kit.log.info({ err: error, project }, 'a deleted project still has something in the storage');
      }
    }
  }
}
