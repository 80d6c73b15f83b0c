import { M2Error } from '@m2/contracts';
import type { Effect, Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { assertQuota } from '../quotas/quotas.js';
import { STORAGE } from '../storage/storage.token.js';
import { assertFree, DiskStore } from './disk-store.js';

/**
 * Nobody is at work on an attempt any more that is so old: it is asked for within a minute, and the storage answers within less than that, or
 * fails. One that comes later begins anew.
 */
export const attemptTime = '5 minutes';

interface Growing {
  project: string;
  volume: string;
  sizeBytes: number;
  growsTo: number;
}

/**
 * Makes disks larger. The new size is on record, and counts, before the storage does it; the size that the disk had stays on record until it
 * is done. Meanwhile nobody attaches the disk, rolls it back or puts it into the trash, so a command that comes again is not refused for what
 * others did.
 */
@Injectable()
export class Growth {
  constructor(
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /**
   * The caller commits the size with `record`. Throws M2Error `disk.not_found`, `disk.not_ready`, `disk.in_use`, `disk.too_small`,
   * `quota.exceeded`, and what the storage throws; whoever gives up then calls `settle`.
   */
  async grow(effect: Effect, diskId: string, project: string, size: number): Promise<void> {
    const disk = await effect.transaction((sql) => this.begin(sql, diskId, project, size));
    await this.storage.ensureSize({ project, name: disk.volume }, size);
  }

  private async begin(sql: Sql, diskId: string, project: string, size: number) {
    const row = await this.disks.ready(sql, diskId, project);
    // A repeated message goes on with what was begun.
    if (row.growsTo !== size) {
      assertFree(row);
      await this.disks.assertSettled(sql, row);
      if (size < row.sizeBytes)
        throw new M2Error('disk.too_small', `The disk "${row.name}" has ${row.sizeBytes} bytes, and disks only grow`);
      await assertQuota(sql, project, { bytes: size - row.sizeBytes });
    }
    await sql.query('UPDATE disks SET grows_to = $2, grows_since = now() WHERE id = $1', [diskId, size]);
    return row;
  }

  /** The disk has this size now. */
  async record(sql: Sql, diskId: string, size: number): Promise<void> {
    await sql.query(
      'UPDATE disks SET size_bytes = greatest(size_bytes, $2), grows_to = NULL, grows_since = NULL WHERE id = $1',
      [diskId, size],
    );
  }

  /**
   * Ends what nobody goes on with. Only the storage knows which of the two sizes the volume has: the process may have died right after it
   * grew. Throws what the storage throws; the disk is still growing then.
   */
  async settle(sql: Sql, diskId: string): Promise<void> {
    const [disk] = await sql.query<Growing>(
      `SELECT project, volume, size_bytes::float8 AS "sizeBytes", grows_to::float8 AS "growsTo" FROM disks
       WHERE id = $1 AND grows_to IS NOT NULL AND state = 'ready'`,
      [diskId],
    );
    if (disk) await this.record(sql, diskId, await this.sizeOf(disk));
  }

  private async sizeOf({ project, volume, sizeBytes, growsTo }: Growing): Promise<number> {
    try {
      await this.storage.ensureSize({ project, name: volume }, sizeBytes);
      return sizeBytes;
    } catch (error) {
      // No disk is made smaller.
      if (M2Error.from(error).code === 'storage.bad_size') return growsTo;
      throw error;
    }
  }
}
