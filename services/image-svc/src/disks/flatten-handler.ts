import { type Disk, diskFlatten, diskFlattenCancel, type RequestOf } from '@m2/contracts';
import { type Effect, Handles } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { DiskStore, toDisk } from './disk-store.js';
import { Flattener } from './flattener.js';

@Controller()
export class FlattenHandler {
  constructor(
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(Flattener) private readonly flattener: Flattener,
  ) {}

  /** Records that the disk is to become flat; the work goes on in the background. */
  @Handles(diskFlatten)
  async request({ diskId, project }: RequestOf<typeof diskFlatten>, effect: Effect): Promise<Disk> {
    const flattening = { progress: null, error: null };
    const disk = await effect.commit(async (sql) => {
      const row = await this.disks.ready(sql, diskId, project);
      if (row.depth === 0) return toDisk(row);
      await sql.query('UPDATE disks SET flattening = $2 WHERE id = $1', [diskId, JSON.stringify(flattening)]);
      return toDisk({ ...row, flattening });
    });
    if (disk.flattening) this.flattener.start(diskId);
    return disk;
  }

  /** Another replica that works on it sees that nobody wants it any more, and stops. Why an earlier one failed stays to be seen. */
  @Handles(diskFlattenCancel)
  async cancel({ diskId, project }: RequestOf<typeof diskFlattenCancel>, effect: Effect) {
    const reply = await effect.commit(async (sql) => {
      await sql.query(
        `UPDATE disks SET flattening = NULL WHERE id = $1 AND project = $2 AND flattening->'error' = 'null'`,
        [diskId, project],
      );
      return {};
    });
    await this.flattener.stop(diskId);
    return reply;
  }
}
