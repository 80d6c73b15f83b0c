import type { ImageInfo, ImageRef, RbdClient, SourceRef } from '@m2/rbd';
import { rm } from 'node:fs/promises';
import { sourceSize, writeGolden } from '../image-file.js';
import type { ImageFile } from '../image-file.js';
import type { Locks } from '@m2/locks';
import type { GoldenSource, LongWork, VolumeInfo } from '../../storage.port.js';
import {
  existsDifferently,
  inUse,
  isMissing,
  isOpen,
  isRbd,
  notFound,
  ignoring,
  undefinedIfMissing,
} from './errors.js';
import { goldenSnap, formatRef } from './names.js';
import type { ImageLocations } from './names.js';
import { Progress } from './progress.js';
import type { Trash } from './trash.js';
import {
  assertNoClones,
  assertSize,
  copyVerified,
  imageLayout,
  imagesOf,
  infoWhenClosed,
  createComplete,
  removeSnaps,
  removeImage,
  removeWithSnaps,
  untilWatchExpires,
} from './volumes.js';

/**
 * Golden images: each is an image with exactly one snapshot, protected, that disks are cloned from.
 *
 * Created under another name, in the order content, snapshot, protection, name. So an image with its final name is complete. When a call
 * was interrupted after the protection, the next one only renames; anything earlier is created again.
 */
export class Goldens {
  /** Sizes never change, and names are never used again. */
  private readonly sizes = new Map<string, number>();

  constructor(
    private readonly rbd: RbdClient,
    private readonly locations: ImageLocations,
    private readonly locks: Locks,
    private readonly trash: Trash,
  ) {}

  ensure(golden: string, source: GoldenSource, work: LongWork): Promise<VolumeInfo> {
    return this.locks.exclusive(makeKey(golden), async () => {
      const ref = this.locations.golden(golden);
      const existing = await this.find(ref);
      if (existing !== undefined) {
        // A repeated call may find that its source was removed since. Then there is nothing to compare.
        const wanted = await this.sizeOfSource(source).catch(() => existing);
        if (wanted !== existing) throw existsDifferently(golden);
        return info(golden, existing);
      }
      const sizeBytes = await this.sizeOfSource(source);
      assertSize(sizeBytes, 512);
      const progress = new Progress(work, sizeBytes);
      for (let attempt = 1; !(await this.make(ref, source, sizeBytes, work, progress)); attempt++) {
        const others = await this.find(ref);
        if (others === sizeBytes) break;
        if (others !== undefined || attempt === 3) throw existsDifferently(golden);
      }
      progress.end();
      return info(golden, sizeBytes);
    });
  }

  /** Size of the disks that are cloned from it. Error `not_found`. */
  async sizeOf(golden: string): Promise<number> {
    const known = this.sizes.get(golden);
    if (known !== undefined) return known;
    const { sizeBytes } = await this.rbd.info(this.locations.origin({ golden }));
    if (this.sizes.size >= 10_000) this.sizes.clear();
    this.sizes.set(golden, sizeBytes);
    return sizeBytes;
  }

  ensureNo(golden: string): Promise<void> {
    return this.locks.exclusive(makeKey(golden), () =>
      this.locks.exclusive(cloneKey(golden), async () => {
        const ref = this.locations.golden(golden);
        const { isThere, partials } = await imagesOf(this.rbd, ref);
        await (isThere ? this.remove(ref) : this.trash.recall(ref));
        for (const partial of partials) await untilWatchExpires(() => this.trash.moveWithSnaps(partial));
        this.sizes.delete(golden);
      }),
    );
  }

  /**
   * Looks first, so that an image with clones is left alone. Then removes the snapshot, and that step decides: nobody can clone it after
   * that. If it was cloned since we looked, librbd keeps it in the trash, and the image cannot be removed. Then the clone has won, and the
   * golden image gets its snapshot back; nobody writes to the image, so the new snapshot equals the old one. (Unprotecting decides nothing:
   * clones of format 2 do not need it.)
   */
  private async remove(ref: ImageRef): Promise<void> {
    const found = await undefinedIfMissing(infoWhenClosed(this.rbd, ref));
    if (found) {
      if (found.watchers.length > 0) throw inUse(ref.image, isOpen);
      await assertNoClones(this.rbd, ref);
      await removeSnaps(this.rbd, ref, found);
    }
    try {
      await this.trash.move(ref);
    } catch (error) {
      if (found && isRbd(error, 'busy')) await this.protect(ref);
      throw error;
    }
  }

  /** The size of an existing golden image, after completing what an interrupted call left of it. */
  private async find(ref: ImageRef): Promise<number | undefined> {
    const { isThere, partials } = await imagesOf(this.rbd, ref);
    if (isThere) {
      const found = await undefinedIfMissing(this.rbd.info(ref));
      if (found) {
        if (!isProtected(found)) await this.protect(ref); // its removal was interrupted; its name says that it is complete
        return found.sizeBytes;
      }
      await removeImage(this.rbd, ref); // its removal was interrupted after it had begun
    }
    for (const partial of partials) {
      const found = await undefinedIfMissing(this.rbd.info(partial));
      if (found && isProtected(found)) {
        // The call that creates it, or another service, does the same at this moment.
        await ignoring('not_found', ignoring('exists', this.rbd.rename(partial, ref.image)));
        return found.sizeBytes;
      }
      // Somebody who works on it has it open. A client that died a moment ago seems to, as well; then a later call removes it.
      await ignoring('busy', removeWithSnaps(this.rbd, partial));
    }
    return undefined;
  }

  /** False: another service has created it; or it took ours for abandoned, between two steps, and removed it. */
  private async make(
    ref: ImageRef,
    source: GoldenSource,
    sizeBytes: number,
    work: LongWork,
    progress: Progress,
  ): Promise<boolean> {
    try {
      await createComplete(this.rbd, ref, async (partial) => {
        await this.fill(partial, source, sizeBytes, work, progress);
        work.signal?.throwIfAborted();
        await this.protect(partial);
      });
      return true;
    } catch (error) {
      if (isRbd(error, 'exists') || isMissing(error)) return false;
      throw error;
    }
  }

  private async protect(ref: ImageRef): Promise<void> {
    await ignoring('exists', this.rbd.snapCreate({ ...ref, snap: goldenSnap }));
    await ignoring('busy', this.rbd.snapProtect({ ...ref, snap: goldenSnap }));
  }

  private async sizeOfSource(source: GoldenSource): Promise<number> {
    if ('path' in source) return sourceSize(source);
    const from = this.sourceRef(source);
    const found = await undefinedIfMissing(this.rbd.info(from));
    if (!found) throw notFound(formatRef(from));
    return Math.ceil(found.sizeBytes / 512) * 512;
  }

  private sourceRef(source: Exclude<GoldenSource, ImageFile>): SourceRef {
    return 'foreign' in source ? this.locations.foreign(source.foreign, { snap: true }) : this.locations.origin(source);
  }

  private async fill(
    to: ImageRef,
    source: GoldenSource,
    sizeBytes: number,
    work: LongWork,
    progress: Progress,
  ): Promise<void> {
    const image = { ...imageLayout, sizeBytes };
    const options = { ...(work.signal && { signal: work.signal }), onProgress: progress.step(0, 1) };
    if (!('path' in source)) return copyVerified(this.rbd, this.sourceRef(source), to, image, options);
    if (source.format === 'raw') return this.rbd.importFile(source.path, to, image, options);
    // qemu-img could write to the cluster directly. But it reads tenants' files, and must not have a key.
    const raw = `${source.path}.${to.image}.raw`;
    try {
      await writeGolden(source, raw, { ...work, onProgress: progress.step(0, 0.5) });
      await this.rbd.importFile(raw, to, image, { ...options, onProgress: progress.step(0.5, 1) });
    } finally {
      await rm(raw, { force: true });
    }
  }
}

/** Shared for a call that clones a golden image, exclusive for a call that removes it. */
export const cloneKey = (golden: string): string => `clone ${golden}`;
const makeKey = (golden: string) => `make ${golden}`;

/** Whether it has exactly the one snapshot. */
export const isProtected = ({ snaps }: ImageInfo): boolean =>
  snaps.some((snap) => snap.name === goldenSnap && snap.protected);

const info = (name: string, sizeBytes: number): VolumeInfo => ({
  name,
  project: null,
  kind: 'golden',
  sizeBytes,
  tags: [],
});
