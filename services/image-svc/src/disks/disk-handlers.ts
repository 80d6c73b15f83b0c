import {
  type Disk,
  diskAttach,
  diskAttached,
  diskCreate,
  diskCreated,
  diskDelete,
  diskDeleted,
  diskDetach,
  diskDetached,
  diskList,
  diskShow,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, Handles, type Sql, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import type { StorageBackend } from '../backends/storage.port.js';
import { STORAGE } from '../backends/storage.token.js';
import { newVolumeName } from '../volumes/volume-names.js';
import { DiskStore } from './disk-store.js';

const sectorBytes = 512;

/** The disks: who owns them, who holds them. The volume is made after its row and goes before it, so none is ever nobody's. */
@Injectable()
export class DiskHandlers {
  constructor(
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Answers(diskShow)
  show({ disk, project }: RequestOf<typeof diskShow>) {
    return this.disks.find(disk, project);
  }

  @Answers(diskList)
  list(filter: RequestOf<typeof diskList>) {
    return this.disks.list(filter);
  }

  @Handles(diskCreate)
  async create(request: RequestOf<typeof diskCreate>, effect: Effect): Promise<Disk> {
    const { disk, golden } = await effect.transaction((sql) => this.record(sql, request));
    await this.storage.ensureClone(golden, disk.volume, { sizeBytes: disk.sizeBytes });
    return effect.commit(async (sql, emit) => {
      await sql.query(`UPDATE disks SET state = 'ready' WHERE id = $1`, [disk.id]);
      const { id, project, name, image, volume, sizeBytes } = disk;
      emit(diskCreated, { id, project, name, image, volume, sizeBytes }, { entity: id, project });
      return { ...disk, state: 'ready' };
    });
  }

  /** The share lock on the image's row keeps it from being deleted before the clone is on record. */
  private async record(sql: Sql, { diskId, project, name, image, sizeBytes }: RequestOf<typeof diskCreate>) {
    const [source] = await sql.query<{ volume: string; state: string; size: number; name: string }>(
      'SELECT volume, state, name, size_bytes::float8 AS size FROM images WHERE id = $1 AND project = $2 FOR SHARE',
      [image, project],
    );
    if (!source) throw new M2Error('image.not_found', `There is no image ${image} in this project`);
    const known = await this.disks.locked(sql, diskId, project);
    if (known) return { disk: known, golden: source.volume };
    if (source.state !== 'ready') throw new M2Error('image.not_ready', `The image "${source.name}" is ${source.state}`);
    const size = roundUp(sizeBytes ?? source.size);
    if (size < source.size)
      throw new M2Error(
        'disk.too_small',
        `The image "${source.name}" has ${source.size} bytes, the disk was to have ${sizeBytes}`,
      );
    const createdAt = new Date();
    const volume = await newVolumeName(sql);
    try {
      await sql.query(
        `INSERT INTO disks (id, project, name, state, volume, image, size_bytes, created_at) VALUES ($1, $2, $3, 'creating', $4, $5, $6, $7)`,
        [diskId, project, name, volume, image, size, createdAt],
      );
    } catch (error) {
      if (violatesUnique(error, 'disks_name')) throw new M2Error('disk.exists', `There is a disk "${name}" already`);
      throw error;
    }
    const disk: Disk = {
      id: diskId,
      project,
      name,
      state: 'creating',
      image,
      volume,
      sizeBytes: size,
      holder: null,
      createdAt: createdAt.toISOString(),
    };
    return { disk, golden: source.volume };
  }

  @Handles(diskDelete)
  async delete({ diskId, project }: RequestOf<typeof diskDelete>, effect: Effect) {
    const disk = await effect.transaction(async (sql) => {
      const row = await this.disks.locked(sql, diskId, project);
      if (row?.holder) throw new M2Error('disk.in_use', `The disk "${row.name}" is held by provision ${row.holder}`);
      if (row) await sql.query(`UPDATE disks SET state = 'deleting' WHERE id = $1`, [diskId]);
      return row;
    });
    if (disk) await this.storage.ensureNoVolume(disk.volume);
    return effect.commit(async (sql, emit) => {
      if (!disk) return {};
      await sql.query('DELETE FROM disks WHERE id = $1', [diskId]);
      const { id, name, volume } = disk;
      emit(diskDeleted, { id, project, name, volume }, { entity: id, project });
      return {};
    });
  }

  /** The claim is the row's: of two provisions, one becomes its holder and the other finds it held. */
  @Handles(diskAttach)
  async attach({ diskId, project, holder }: RequestOf<typeof diskAttach>, effect: Effect) {
    const disk = await effect.transaction(async (sql) => {
      const row = await this.disks.locked(sql, diskId, project);
      if (!row) throw new M2Error('disk.not_found', `There is no disk ${diskId} in this project`);
      if (row.state !== 'ready') throw new M2Error('disk.in_use', `The disk "${row.name}" is ${row.state}`);
      if (row.holder && row.holder !== holder)
        throw new M2Error('disk.in_use', `The disk "${row.name}" is held by provision ${row.holder}`);
      await sql.query('UPDATE disks SET holder = $2 WHERE id = $1', [diskId, holder]);
      return { ...row, holder };
    });
    const backing = await this.storage.ensureAttached(disk.volume);
    return effect.commit(async (_sql, emit) => {
      emit(diskAttached, { id: disk.id, project, name: disk.name, holder }, { entity: disk.id, project });
      return { disk, backing };
    });
  }

  @Handles(diskDetach)
  async detach({ diskId, project, holder }: RequestOf<typeof diskDetach>, effect: Effect) {
    const disk = await effect.transaction((sql) => this.disks.locked(sql, diskId, project));
    const ours = disk?.holder === holder;
    if (ours) await this.storage.ensureDetached(disk.volume);
    return effect.commit(async (sql, emit) => {
      if (!ours) return {};
      await sql.query('UPDATE disks SET holder = NULL WHERE id = $1 AND holder = $2', [diskId, holder]);
      emit(diskDetached, { id: disk.id, project, name: disk.name, holder }, { entity: disk.id, project });
      return {};
    });
  }
}

const roundUp = (bytes: number) => Math.ceil(bytes / sectorBytes) * sectorBytes;
