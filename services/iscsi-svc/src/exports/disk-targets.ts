import { Inject, Injectable } from '@nestjs/common';
import type { Backings } from '../backings/backings.js';
import type { BackingStore } from '../backings/rbd-disk.js';
import type { ExportSpec, Portal, TargetDriver } from '../targets/target.port.js';

export const TARGETS = Symbol('target driver');
export const BACKINGS = Symbol('backings');

/** An export of any storage's disk. */
export interface DiskSpec extends Omit<ExportSpec, 'backing'> {
  backing: BackingStore;
}

/** A complete export: the disk as a file, and the target that opens it. */
@Injectable()
export class DiskTargets {
  constructor(
    @Inject(TARGETS) private readonly targets: TargetDriver,
    @Inject(BACKINGS) private readonly backings: Backings,
  ) {}

  async ensure(spec: DiskSpec): Promise<Portal[]> {
    const path = await this.backings.ensureFile(spec.pool, spec.backing);
    // The kernel caches what it reads of a FUSE file, and would still return it after another host has written to the image.
    const direct = spec.backing.type === 'rbd';
    const { portals } = await this.targets.ensureExport({ ...spec, backing: { type: 'file', path, direct } });
    return portals;
  }

  /** The target first: as long as it has the file open, the disk cannot be closed. */
  async ensureNone({ pool, iqn, backing }: Pick<DiskSpec, 'pool' | 'iqn' | 'backing'>): Promise<void> {
    await this.targets.ensureNoExport(pool, iqn);
    await this.backings.ensureNoFile(pool, backing);
  }
}
