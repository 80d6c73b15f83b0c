import type { ImageRef, RbdClient } from '@m2/rbd';
import type { Locks } from '@m2/locks';
import type { DiskVolume, LongWork } from '../../storage.port.js';
import { diskKey } from './clones.js';
import { inUse, isOpen, isRbd, notFound, ignoring, undefinedIfMissing } from './errors.js';
import { formatRef } from './names.js';
import type { ImageLocations } from './names.js';
import { Progress } from './progress.js';
import type { Trash } from './trash.js';
import { assertNoClones, assertSize, imagesOf, infoWhenClosed, removeSnaps, untilWatchExpires } from './volumes.js';

/** Operations on existing disks. A tag is a snapshot of the disk's image. */
export class Disks {
  constructor(
    private readonly rbd: RbdClient,
    private readonly locations: ImageLocations,
    private readonly locks: Locks,
    private readonly trash: Trash,
  ) {}

  /** librbd asks whoever has the disk open to make the snapshot, between two writes. */
  tag(disk: DiskVolume, tag: string): Promise<void> {
    return this.locks.exclusive(diskKey(disk), () =>
      ignoring('exists', this.rbd.snapCreate({ ...this.locations.disk(disk), snap: tag })),
    );
  }

  /**
   * Nobody in this process clones the tag meanwhile. Another process may clone it between our look and the removal. That clone is complete,
   * because librbd keeps the snapshot in its trash for it; until the clone is gone or flat, the disk cannot be removed.
   */
  untag(disk: DiskVolume, tag: string): Promise<void> {
    return this.locks.exclusive(diskKey(disk), async () => {
      const ref = { ...this.locations.disk(disk), snap: tag };
      await assertNoClones(this.rbd, ref);
      await ignoring('not_found', this.rbd.snapRemove(ref));
    });
  }

  resize(disk: DiskVolume, sizeBytes: number): Promise<void> {
    return this.locks.exclusive(diskKey(disk), async () => {
      const ref = this.locations.disk(disk);
      const now = await infoWhenClosed(this.rbd, ref);
      assertSize(sizeBytes, now.sizeBytes);
      if (sizeBytes === now.sizeBytes) return;
      // librbd could do it, but no target tells a node that its disk has grown.
      if (now.watchers.length > 0) throw inUse(disk.name, isOpen);
      await this.rbd.resize(ref, sizeBytes);
    });
  }

  /** Works while the disk is open: then whoever has it open copies. Other operations on the disk go on meanwhile. */
  flatten(disk: DiskVolume, work: LongWork): Promise<void> {
    return this.locks.exclusive(`flatten ${diskKey(disk)}`, async () => {
      const ref = this.locations.disk(disk);
      const { parent, sizeBytes } = await this.rbd.info(ref);
      const progress = new Progress(work, sizeBytes);
      const options = { ...(work.signal && { signal: work.signal }), onProgress: progress.step(0, 1) };
      // `invalid`: somebody else made it flat since we looked.
      if (parent) await ignoring('invalid', this.rbd.flatten(ref, options));
      progress.end();
    });
  }

  remove(disk: DiskVolume): Promise<void> {
    return this.locks.exclusive(diskKey(disk), async () => {
      const ref = this.locations.disk(disk);
      const { isThere, partials } = await imagesOf(this.rbd, ref);
      await (isThere ? this.removeImage(ref) : this.trash.recall(ref));
      for (const partial of partials) await untilWatchExpires(() => this.trash.moveWithSnaps(partial));
    });
  }

  /** An image that is open or has snapshots is not taken away. Most have none and go at the first attempt. */
  private async removeImage(ref: ImageRef): Promise<void> {
    try {
      return await this.trash.move(ref);
    } catch (error) {
      if (!isRbd(error, 'busy')) throw error;
    }
    const found = await undefinedIfMissing(infoWhenClosed(this.rbd, ref));
    if (!found) return;
    if (found.watchers.length > 0) throw inUse(ref.image, isOpen);
    await assertNoClones(this.rbd, ref);
    await removeSnaps(this.rbd, ref, found);
    await this.trash.move(ref);
  }

  /** Error `storage.not_found`. */
  async assertThere(disk: DiskVolume): Promise<ImageRef & { namespace: string }> {
    const ref = this.locations.disk(disk);
    if (!(await undefinedIfMissing(this.rbd.info(ref)))) throw notFound(`disk ${formatRef(ref)}`);
    return { ...ref, namespace: disk.project };
  }
}
