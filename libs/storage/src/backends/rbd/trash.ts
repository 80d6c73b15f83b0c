import { RbdError } from '@m2/rbd';
import type { ImageRef, RbdClient } from '@m2/rbd';
import type { LongWork, RemovedVolume } from '../../storage.port.js';
import { ignoring, isMissing, undefinedIfMissing } from './errors.js';
import { volumeOf } from './names.js';
import type { ImageLocations } from './names.js';
import { infoWhenClosed, removeImage, removeSnaps } from './volumes.js';

/**
 * The cluster's trash. A volume that is removed goes there at once, whatever its size, and from there in the background. It is the only record
 * of what is still to be freed.
 */
export class Trash {
  private readonly listeners: ((volume: RemovedVolume) => void)[] = [];

  constructor(
    private readonly rbd: RbdClient,
    private readonly locations: ImageLocations,
  ) {}

  onMoved(listener: (volume: RemovedVolume) => void): void {
    this.listeners.push(listener);
  }

  /** Takes away an image that nobody has open. Error `busy`: somebody has, or it has snapshots, or clones that are not in the trash. */
  async move(ref: ImageRef): Promise<void> {
    const found = await undefinedIfMissing(infoWhenClosed(this.rbd, ref));
    // What an interrupted creation or removal left is small.
    if (!found) return removeImage(this.rbd, ref);
    const kept = found.snaps.some(({ kind }) => kind !== 'trash');
    // A snapshot that was removed stays, in a trash of its own, as long as a clone needs it.
    const cloned = found.snaps.length > 0 && (await this.rbd.children(ref)).some(({ trashed }) => !trashed);
    if (found.watchers.length > 0 || kept || cloned)
      throw new RbdError('busy', 'rbd_trash_move', 'it has snapshots, or somebody uses it');
    try {
      await this.rbd.trashMove(ref);
    } catch (error) {
      // In a full pool that never had a trash none can be made, which looks like this, too.
      if (!isMissing(error)) throw error;
      return removeImage(this.rbd, ref);
    }
    this.tell({ name: volumeOf(ref.image)!.volume, project: ref.namespace ?? null, id: found.id });
  }

  /** For a volume that is not there: an earlier call may have died when it had just moved it, and told nobody. */
  async recall({ pool, namespace, image }: ImageRef): Promise<void> {
    for (const volume of await this.of(pool, namespace)) if (volume.name === image) this.tell(volume);
  }

  async moveWithSnaps(ref: ImageRef): Promise<void> {
    const found = await undefinedIfMissing(this.rbd.info(ref));
    if (found) await removeSnaps(this.rbd, ref, found);
    await this.move(ref);
  }

  /** All volumes of M2 that are there, also of other installations. */
  async list(): Promise<RemovedVolume[]> {
    const { imagePool, diskPool } = this.locations;
    const namespaces = await this.rbd.namespaceList(diskPool);
    const found = await Promise.all([
      this.of(imagePool, undefined),
      ...namespaces.map((namespace) => this.of(diskPool, namespace)),
    ]);
    return found.flat();
  }

  async free({ project, id }: RemovedVolume, work: LongWork): Promise<void> {
    const { imagePool, diskPool } = this.locations;
    const at = project === null ? { pool: imagePool, id } : { pool: diskPool, namespace: project, id };
    await ignoring('not_found', this.rbd.trashRemove(at, work));
  }

  private tell(volume: RemovedVolume): void {
    for (const listener of this.listeners) listener(volume);
  }

  private async of(pool: string, namespace: string | undefined): Promise<RemovedVolume[]> {
    const images = (await undefinedIfMissing(this.rbd.trashList(pool, namespace))) ?? [];
    return images.flatMap(({ id, name }) => {
      const ours = volumeOf(name);
      return ours ? [{ name: ours.volume, project: namespace ?? null, id }] : [];
    });
  }
}
