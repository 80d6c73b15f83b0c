import { type Disk, diskFlattened, M2Error, shown } from '@m2/contracts';
import { isConnectionError, type Kit, KIT, type Lease } from '@m2/service-kit';
import { Inject, Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Background, throttled } from '../background/background.js';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import { TagRemover } from './tag-remover.js';

interface Row {
  project: string;
  name: string;
  volume: string;
}

/** One at a time, because it reads and writes whole disks while nodes use others. */
const concurrency = 1;

/** Makes disks independent of what they were cloned from (flat), in the background. */
@Injectable()
export class Flattener implements OnModuleInit, BeforeApplicationShutdown {
  private readonly background: Background;

  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(TagRemover) private readonly tags: TagRemover,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.background = new Background(kit, {
      name: 'flatten',
      concurrency,
      due: () => this.due(),
      run: (id, lease) => this.flatten(id, lease),
    });
  }

  onModuleInit(): Promise<void> {
    return this.background.open();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.background.close();
  }

  start(disk: string): void {
    this.background.start(disk);
  }

  /** Returns when this replica does not flatten the disk any more. The disk is whole, and still a clone. */
  stop(disk: string): Promise<void> {
    return this.background.stop(disk);
  }

  private async due(): Promise<string[]> {
    const rows = await this.kit.database.query<{ id: string }>(
      `SELECT id FROM disks WHERE flattening IS NOT NULL AND flattening->'error' = 'null' AND state = 'ready' ORDER BY created_at`,
    );
    return rows.map(({ id }) => id);
  }

  private async flatten(id: string, lease: Lease): Promise<void> {
    const cancelled = new AbortController();
    const signal = AbortSignal.any([lease.signal, cancelled.signal]);
    const [disk] = await this.kit.database.query<Row & Record<string, unknown>>(
      `SELECT project, name, volume FROM disks
       WHERE id = $1 AND flattening IS NOT NULL AND flattening->'error' = 'null' AND state = 'ready'`,
      [id],
    );
    if (!disk) return;
    const { project, name, volume } = disk;
    try {
      const onProgress = throttled(async (done, total) => {
        const isWanted = await this.tell(id, { progress: { phase: 'flatten', done, total }, error: null });
        if (!isWanted) cancelled.abort(new M2Error('storage.aborted', 'The flattening was cancelled'));
      });
      await this.storage.ensureFlat({ project, name: volume }, { signal, onProgress });
      // A rollback may have given the disk another volume meanwhile. Then the flattened one does not count.
      const flat = await this.kit.database.transaction(async (sql) => {
        await lease.assertHeld(sql);
        return sql.query(`UPDATE disks SET depth = 0 WHERE id = $1 AND volume = $2 RETURNING id`, [id, volume]);
      });
      if (flat.length === 0) return;
      // Before anybody is told: who asked for a flat disk wants to delete the image next.
      await this.tags.settle(id);
      await this.kit.transact(async (sql, emit) => {
        await lease.assertHeld(sql);
        const rows = await sql.query(
          `UPDATE disks SET flattening = NULL WHERE id = $1 AND volume = $2 AND flattening IS NOT NULL RETURNING id`,
          [id, volume],
        );
        if (rows.length > 0) emit(diskFlattened, { id, project, name }, { entity: id, project });
      });
    } catch (error) {
      const failure = M2Error.from(error);
      // The disk was attached, the service stops, or something is down for a while: the flattening is tried again.
      if (signal.aborted || failure.code === 'storage.in_use') return;
      if (isConnectionError(error) || failure.retryable) throw error;
      this.kit.log.warn({ err: error, disk: id }, 'a disk could not be made flat');
      await this.tell(id, { progress: null, error: shown(failure.toValue()) });
    }
  }

  /** Returns whether the disk is still to become flat, as far as that can be known. */
  private async tell(id: string, flattening: Disk['flattening']): Promise<boolean> {
    try {
      const rows = await this.kit.database.query(
        // Late progress must not overwrite an error.
        `UPDATE disks SET flattening = $2 WHERE id = $1 AND flattening->'error' = 'null' RETURNING id`,
        [id, JSON.stringify(flattening)],
      );
      return rows.length > 0;
    } catch (error) {
      this.kit.log.debug({ err: error }, 'progress was not recorded');
      return true;
    }
  }
}
