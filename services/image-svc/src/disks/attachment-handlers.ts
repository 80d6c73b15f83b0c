import { diskAttach, diskAttached, diskDetach, diskDetached, M2Error, type RequestOf } from '@m2/contracts';
import { type Effect, Handles } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';
import { DiskStore, toDisk } from './disk-store.js';
import { Flattener } from './flattener.js';

/** Claims and releases disks. */
@Controller()
export class AttachmentHandlers {
  constructor(
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(Flattener) private readonly flattener: Flattener,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  /** The row decides who holds the disk: of two provisions, one becomes the holder, and the other is told that the disk is held. */
  @Handles(diskAttach)
  async attach({ diskId, project, holder }: RequestOf<typeof diskAttach>, effect: Effect) {
    const disk = await effect.transaction(async (sql) => {
      const row = await this.disks.locked(sql, diskId, project);
      if (!row) throw new M2Error('disk.not_found', `There is no disk ${diskId} in this project`);
      if (row.state !== 'ready') throw new M2Error('disk.in_use', `The disk "${row.name}" is ${row.state}`);
      if (row.holder && row.holder !== holder)
        throw new M2Error('disk.in_use', `The disk "${row.name}" is held by provision ${row.holder}`);
      if (row.holder === null) await this.disks.assertSettled(sql, row);
      await sql.query('UPDATE disks SET holder = $2 WHERE id = $1', [diskId, holder]);
      return { ...row, holder };
    });
    // A node does not wait for a flattening. It goes on under the node where the storage can do that, else when the disk is free again.
    if (disk.flattening) await this.flattener.stop(diskId);
    const backing = await this.storage.ensureAttached({ project, name: disk.volume });
    return effect.commit(async (_sql, emit) => {
      emit(diskAttached, { id: disk.id, project, name: disk.name, holder }, { entity: disk.id, project });
      return { disk: toDisk(disk), backing };
    });
  }

  @Handles(diskDetach)
  async detach({ diskId, project, holder }: RequestOf<typeof diskDetach>, effect: Effect) {
    const disk = await effect.transaction((sql) => this.disks.locked(sql, diskId, project));
    const ours = disk?.holder === holder;
    if (ours) await this.storage.ensureDetached({ project, name: disk.volume });
    return effect.commit(async (sql, emit) => {
      if (!ours) return {};
      await sql.query('UPDATE disks SET holder = NULL WHERE id = $1 AND holder = $2', [diskId, holder]);
      emit(diskDetached, { id: disk.id, project, name: disk.name, holder }, { entity: disk.id, project });
      return {};
    });
  }
}
