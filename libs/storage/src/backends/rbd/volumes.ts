import type { CallOptions, Feature, ImageInfo, ImageOptions, ImageRef, RbdClient, SourceRef } from '@m2/rbd';
import { setTimeout as pause } from 'node:timers/promises';
import { StorageError } from '../../storage.port.js';
import { hasClones, inUse, isMissing, isRbd, notFound, ignoring, undefinedIfMissing } from './errors.js';
import { partialName, formatRef, volumeOf } from './names.js';

/** Copy-on-write copies whole objects: 200 random writes of 4 KiB cost 528 MiB with the usual 4 MiB, and 179 MiB with 1 MiB. */
const objectBytes = 2 ** 20;
/** Object-map and fast-diff: removing, copying and comparing a sparse image touches existing objects only. */
const features: Feature[] = ['layering', 'exclusive-lock', 'object-map', 'fast-diff'];

/** Layout of golden images and copies. */
export const imageLayout: ImageOptions = { objectBytes, features };
/** Layout of disks: with deep-flatten, flattening a disk flattens its tags, too. Otherwise they would keep depending on the origin. */
export const diskLayout: ImageOptions = { objectBytes, features: [...features, 'deep-flatten'] };

/** The most objects of an object map (cls_rbd_types.h, MAX_OBJECT_MAP_OBJECT_COUNT). */
const maxBytes = 256_000_000 * objectBytes;

/** Error `storage.bad_size`. */
export function assertSize(sizeBytes: number, least: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes % 512 !== 0 || sizeBytes < least || sizeBytes > maxBytes) {
    throw new StorageError(
      'storage.bad_size',
      `The disk cannot have ${sizeBytes} bytes. Ask for a multiple of 512 from ${least} to ${maxBytes}.`,
    );
  }
}

/** How long a dead client still counts as having its images open: Ceph's osd_client_watch_timeout, and a little more. */
const watchTimeoutMs = 40_000;

/** How long librbd itself may have an image open under load. */
const momentMs = 3000;

/**
 * The image, once nobody has it open. Whoever still has it open after a moment is in the result. librbd opens an image by itself: when the last
 * clone of a removed snapshot goes, whoever removes that clone opens its origin and takes the snapshot away (librbd/image/DetachChildRequest.cc).
 */
export async function infoWhenClosed(rbd: RbdClient, ref: ImageRef): Promise<ImageInfo> {
  for (const start = performance.now(); ; await pause(100)) {
    const found = await rbd.info(ref);
    if (found.watchers.length === 0 || performance.now() - start > momentMs) return found;
  }
}

/** Repeats `attempt` while a client that may be dead has the image open. */
export async function untilWatchExpires<T>(attempt: () => Promise<T>): Promise<T> {
  for (const deadline = performance.now() + watchTimeoutMs; ; await pause(500)) {
    try {
      return await attempt();
    } catch (error) {
      if (!isRbd(error, 'busy') || performance.now() > deadline) throw error;
    }
  }
}

/** The images of a pool and namespace that are, or will be, this volume. */
export async function imagesOf(rbd: RbdClient, volume: ImageRef): Promise<{ isThere: boolean; partials: ImageRef[] }> {
  const names = await rbd.namesLike(volume.pool, volume.namespace, volume.image);
  const partials = names.filter((name) => name !== volume.image && volumeOf(name)?.volume === volume.image);
  return { isThere: names.includes(volume.image), partials: partials.map((image) => ({ ...volume, image })) };
}

/**
 * Creates an image under a unique name and renames it last, so an image with its final name is complete. After an error it is removed.
 * Error `exists`: somebody else created it meanwhile.
 */
export async function createComplete(
  rbd: RbdClient,
  ref: ImageRef,
  make: (partial: ImageRef) => Promise<void>,
): Promise<void> {
  const partial = { ...ref, image: partialName(ref.image) };
  try {
    await make(partial);
    await rbd.rename(partial, ref.image);
  } catch (error) {
    // What cannot be removed now is found by the next call for this volume, and is in the list.
    await removeWithSnaps(rbd, partial).catch(() => {});
    throw error;
  }
}

/** Error `storage.in_use`: the snapshot, or one of the image's, has clones that are not flat. Those in the trash need nobody's care. */
export async function assertNoClones(rbd: RbdClient, ref: SourceRef): Promise<void> {
  const clones = ((await undefinedIfMissing(rbd.children(ref))) ?? []).filter(({ trashed }) => !trashed);
  if (clones[0]) throw inUse(formatRef(ref), hasClones(clones.length, formatRef(clones[0])));
}

/** Removes an image and its snapshots, which must have no clones. Error `busy`: somebody has it open. */
export async function removeWithSnaps(rbd: RbdClient, ref: ImageRef): Promise<void> {
  const info = await undefinedIfMissing(rbd.info(ref));
  if (info) await removeSnaps(rbd, ref, info);
  await removeImage(rbd, ref);
}

/**
 * Removes an image without snapshots, or what an interrupted call left of it: some of its objects, or only its name, which librbd reports
 * as missing and still lists. Errors as `RbdClient.remove`, without `not_found`.
 */
export async function removeImage(rbd: RbdClient, ref: ImageRef): Promise<void> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    await ignoring('not_found', rbd.remove(ref));
    if (!(await imagesOf(rbd, ref)).isThere) return;
  }
  throw new StorageError(
    'storage.unavailable',
    `${formatRef(ref)} stays in the list of images. Remove it with "rbd rm".`,
  );
}

export async function removeSnaps(rbd: RbdClient, ref: ImageRef, info: ImageInfo): Promise<void> {
  for (const snap of info.snaps.filter(({ kind }) => kind === 'user')) {
    const snapRef = { ...ref, snap: snap.name };
    if (snap.protected) await ignoring('invalid', rbd.snapUnprotect(snapRef));
    await ignoring('not_found', rbd.snapRemove(snapRef));
  }
}

/**
 * Copies an image or a snapshot, and makes sure that the snapshot existed all the time: from a removed one librbd reads zeros, without an
 * error.
 */
export async function copyVerified(
  rbd: RbdClient,
  from: SourceRef,
  to: ImageRef,
  image: ImageOptions & { sizeBytes: number },
  options: CallOptions & { onProgress(done: number, total: number): void },
): Promise<void> {
  const before = await snapId(rbd, from);
  await rbd.copy(from, to, image, options);
  if (before !== (await snapId(rbd, from))) throw notFound(`${formatRef(from)} any more`);
}

async function snapId(rbd: RbdClient, from: SourceRef): Promise<number | undefined> {
  if (from.snap === undefined) return undefined;
  try {
    return (await rbd.info(from)).snaps.find(({ name, kind }) => kind === 'user' && name === from.snap)?.id;
  } catch (error) {
    if (isMissing(error)) throw notFound(formatRef(from));
    throw error;
  }
}
