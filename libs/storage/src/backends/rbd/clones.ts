import type { ImageInfo, ImageRef, RbdClient, SnapRef } from '@m2/rbd';
import type { Locks } from '@m2/locks';
import { StorageError } from '../../storage.port.js';
import type { DiskVolume, Origin, VolumeInfo } from '../../storage.port.js';
import { existsDifferently, isMissing, isRbd, notFound, ignoring, undefinedIfMissing } from './errors.js';
import { cloneKey } from './goldens.js';
import type { Goldens } from './goldens.js';
import { isTag, formatRef } from './names.js';
import type { ImageLocations } from './names.js';
import type { Projects } from './projects.js';
import {
  assertSize,
  copyVerified,
  diskLayout,
  imagesOf,
  createComplete,
  removeImage,
  removeWithSnaps,
  untilWatchExpires,
} from './volumes.js';

interface Wish {
  origin: Origin;
  from: SnapRef;
  disk: DiskVolume;
  to: ImageRef;
  /** Size of the disk; absent: that of its origin. */
  sizeBytes: number | undefined;
}

/**
 * Disks as copy-on-write clones.
 *
 * A clone of its origin's size is created under its final name, with one call of librbd and no check before. Only after a failure the
 * images are looked at (`find`). A larger clone is created under another name and renamed last, because one with the origin's size would
 * look like a complete disk of that size.
 */
export class Clones {
  constructor(
    private readonly rbd: RbdClient,
    private readonly locations: ImageLocations,
    private readonly locks: Locks,
    private readonly projects: Projects,
    private readonly goldens: Goldens,
  ) {}

  async ensure(origin: Origin, disk: DiskVolume, sizeBytes: number | undefined): Promise<VolumeInfo> {
    const wish = { origin, from: this.locations.origin(origin), disk, to: this.locations.disk(disk), sizeBytes };
    await this.projects.ensure(disk.project);
    const own = diskKey(disk);
    // Copying takes long, and must not block other users of the origin.
    if (ofOthers(wish)) return this.locks.exclusive(own, () => this.make(wish));
    const theirs = 'golden' in origin ? cloneKey(origin.golden) : diskKey(origin.disk);
    if (own === theirs) throw existsDifferently(disk.name);
    // In the order of the names, so that two calls cannot deadlock.
    return own < theirs
      ? this.locks.exclusive(own, () => this.locks.shared(theirs, () => this.make(wish)))
      : this.locks.shared(theirs, () => this.locks.exclusive(own, () => this.make(wish)));
  }

  private async make(wish: Wish): Promise<VolumeInfo> {
    // Other services may work on the same disk, so what is there may change between two looks, but not for ever.
    for (let attempt = 0; attempt < 5; attempt++) {
      // Queried at the same time where it is not known yet: it costs half as much as the clone.
      const originSize = this.originSize(wish);
      originSize.catch(() => {});
      const made = await this.create(wish, originSize);
      if (typeof made === 'number') return info(wish.disk, made);
      const found = await this.find(wish.to);
      if (found) return compared(wish, found, await originSize.catch(() => undefined));
      if (made === 'no place') {
        if (!(await undefinedIfMissing(this.rbd.info(wish.from)))) throw notFound(formatRef(wish.from));
        await this.projects.remake(wish.disk.project);
        continue;
      }
      await untilWatchExpires(() => this.removeUnfinished(wish.to));
    }
    throw new StorageError('storage.unavailable', `Volume ${wish.disk.name} changes all the time. Retry.`);
  }

  /** Returns the size of what was created, or which of the two locations (of the origin, of the clone) is missing. */
  private async create(wish: Wish, originSize: Promise<number>): Promise<number | 'exists' | 'no place'> {
    const { from, to, sizeBytes } = wish;
    try {
      if (!ofOthers(wish) && (sizeBytes === undefined || sizeBytes === (await originSize))) {
        await this.rbd.clone(from, to, diskLayout);
        return await originSize.catch(async () => (await this.rbd.info(to)).sizeBytes);
      }
      const { isThere, partials } = await imagesOf(this.rbd, to);
      if (isThere) return 'exists';
      const [size, least] = [sizeBytes ?? (await originSize), await originSize];
      assertSize(size, least);
      for (const partial of partials) await ignoring('busy', removeWithSnaps(this.rbd, partial));
      await createComplete(this.rbd, to, (partial) => this.fill(partial, wish, size));
      return size;
    } catch (error) {
      if (isRbd(error, 'exists')) return 'exists';
      if (isMissing(error)) return 'no place';
      throw error;
    }
  }

  private async fill(partial: ImageRef, wish: Wish, sizeBytes: number): Promise<void> {
    const { from } = wish;
    if (ofOthers(wish)) {
      return copyVerified(this.rbd, from, partial, { ...diskLayout, sizeBytes }, { onProgress: () => {} });
    }
    await this.rbd.clone(from, partial, diskLayout);
    await this.rbd.resize(partial, sizeBytes);
  }

  private originSize({ origin, from }: Wish): Promise<number> {
    if ('golden' in origin) return this.goldens.sizeOf(origin.golden);
    return this.rbd.info(from).then(({ sizeBytes }) => sizeBytes);
  }

  /**
   * The disk, when it is complete. librbd creates a clone in several steps: name, header, parent, and last the parent's list of clones
   * (librbd/image/CloneRequest.cc). After a kill in between, the image may have no parent and be all zeros; or its parent does not know it,
   * and could be removed. Neither was ever used.
   */
  private async find(to: ImageRef): Promise<ImageInfo | undefined> {
    const found = await undefinedIfMissing(this.rbd.info(to));
    if (!found) return undefined;
    const { parent, snaps, id } = found;
    if (!parent) return snaps.length > 0 || (await this.rbd.usedBytes(to)) > 0 ? found : undefined;
    const { pool, namespace, image } = parent;
    const clones = await undefinedIfMissing(this.rbd.children({ pool, namespace, image }));
    return !clones || clones.some((clone) => clone.id === id) ? found : undefined;
  }

  private async removeUnfinished(to: ImageRef): Promise<void> {
    if (!(await this.find(to))) await removeImage(this.rbd, to);
  }
}

/** Exclusive for a call that changes the disk, shared for a call that clones it. */
export const diskKey = ({ project, name }: DiskVolume): string => `disk ${project}/${name}`;

/**
 * Whether the origin is a tag of another project's disk. The user of this project may not read there, so the disk cannot be a clone: it is
 * copied.
 */
const ofOthers = ({ origin, disk }: Wish) => 'disk' in origin && origin.disk.project !== disk.project;

/** Error `storage.exists_differently`. The origin of a flat or copied disk is not known. */
function compared({ origin, from, disk, sizeBytes }: Wish, found: ImageInfo, originSize?: number): VolumeInfo {
  const wanted = sizeBytes ?? originSize ?? found.sizeBytes;
  if (wanted !== found.sizeBytes || (found.parent && !isSame(found.parent, from, origin))) {
    throw existsDifferently(disk.name);
  }
  return info(disk, found.sizeBytes, tagsOf(found));
}

/** All snapshots that a golden image ever had are equal, and one may have been replaced (`Goldens.remove`). */
const isSame = (parent: SnapRef, from: SnapRef, origin: Origin): boolean =>
  formatRef({ ...parent, snap: '' }) === formatRef({ ...from, snap: '' }) &&
  ('golden' in origin || parent.snap === from.snap);

/** Other snapshots are not tags: librbd's trash, and a temporary one while a disk is made flat. */
export const tagsOf = ({ snaps }: ImageInfo): string[] =>
  snaps.filter(({ kind, name }) => kind === 'user' && isTag(name)).map(({ name }) => name);

const info = ({ name, project }: DiskVolume, sizeBytes: number, tags: string[] = []): VolumeInfo => ({
  name,
  project,
  kind: 'disk',
  sizeBytes,
  tags,
});
