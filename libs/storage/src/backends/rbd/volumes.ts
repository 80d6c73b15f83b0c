import type { CallOptions, Feature, ImageInfo, ImageOptions, ImageRef, RbdClient, SourceRef } from '@m2/rbd';
import { setTimeout as pause } from 'node:timers/promises';
import { StorageError } from '../../storage.port.js';
import { hasClones, inUse, isMissing, isRbd, notFound, unless, unlessMissing } from './errors.js';
import { partialName, spelled, volumeOf } from './names.js';

/** Copy-on-write moves whole objects: 200 random writes of 4 KiB cost 528 MiB with the usual 4 MiB, 179 MiB with these. */
const objectBytes = 2 ** 20;
/** Object-map and fast-diff: whoever removes, copies or compares a sparse image asks for the objects that there are only. */
const features: Feature[] = ['layering', 'exclusive-lock', 'object-map', 'fast-diff'];

/** How golden images and copies are laid out. */
export const imageLayout: ImageOptions = { objectBytes, features };
/** And disks: with deep-flatten, a disk that is made flat takes its tags along, which else would hold on to its origin. */
export const diskLayout: ImageOptions = { objectBytes, features: [...features, 'deep-flatten'] };

/** What an object map can hold (cls_rbd_types.h, MAX_OBJECT_MAP_OBJECT_COUNT). */
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

/** How long a client that died still counts as one that has its images open: Ceph's osd_client_watch_timeout, and some. */
const watchTimeoutMs = 40_000;

/** Repeats `attempt` while somebody has the image open who may be dead. */
export async function untilWatchExpires<T>(attempt: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + watchTimeoutMs; ; await pause(500)) {
    try {
      return await attempt();
    } catch (error) {
      if (!isRbd(error, 'busy') || Date.now() > deadline) throw error;
    }
  }
}

/** The images of a pool and namespace that are, or are to become, this volume. */
export async function imagesOf(rbd: RbdClient, volume: ImageRef): Promise<{ isThere: boolean; partials: ImageRef[] }> {
  const names = (await rbd.list(volume.pool, volume.namespace)).map(({ name }) => name);
  const partials = names.filter((name) => name !== volume.image && volumeOf(name)?.volume === volume.image);
  return { isThere: names.includes(volume.image), partials: partials.map((image) => ({ ...volume, image })) };
}

/**
 * Makes an image under a name of its own and renames it last: by its name it is whole, or not there. What fails is removed.
 * Error `exists`: somebody else has made it meanwhile.
 */
export async function makeWhole(
  rbd: RbdClient,
  ref: ImageRef,
  make: (partial: ImageRef) => Promise<void>,
): Promise<void> {
  const partial = { ...ref, image: partialName(ref.image) };
  try {
    await make(partial);
    await rbd.rename(partial, ref.image);
  } catch (error) {
    // What cannot be removed now is found by the next call for this volume, and in the list.
    await removeWithSnaps(rbd, partial).catch(() => {});
    throw error;
  }
}

/** Error `storage.in_use`: the snapshot, or one of the image's, has clones that are not flat. */
export async function assertNoClones(rbd: RbdClient, ref: SourceRef): Promise<void> {
  const clones = (await unlessMissing(rbd.children(ref))) ?? [];
  if (clones[0]) throw inUse(spelled(ref), hasClones(clones.length, spelled(clones[0])));
}

/** Removes an image and its snapshots, which have no clones. Error `busy`: somebody has it open. */
export async function removeWithSnaps(rbd: RbdClient, ref: ImageRef): Promise<void> {
  const info = await unlessMissing(rbd.info(ref));
  if (info) await removeSnaps(rbd, ref, info);
  await removeImage(rbd, ref);
}

/**
 * Removes an image without snapshots, or what an interrupted call left of one: some of its objects, or nothing but its name,
 * which librbd then tells to be missing and lists all the same. Errors as `RbdClient.remove`, without `not_found`.
 */
export async function removeImage(rbd: RbdClient, ref: ImageRef): Promise<void> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    await unless('not_found', rbd.remove(ref));
    if (!(await imagesOf(rbd, ref)).isThere) return;
  }
  throw new StorageError(
    'storage.unavailable',
    `${spelled(ref)} stays in the list of images. Remove it with "rbd rm".`,
  );
}

export async function removeSnaps(rbd: RbdClient, ref: ImageRef, info: ImageInfo): Promise<void> {
  for (const snap of info.snaps.filter(({ kind }) => kind === 'user')) {
    const snapRef = { ...ref, snap: snap.name };
    if (snap.protected) await unless('invalid', rbd.snapUnprotect(snapRef));
    await unless('not_found', rbd.snapRemove(snapRef));
  }
}

/**
 * Copies an image or a snapshot, and makes sure that a snapshot was there all the time: once it is removed librbd reads
 * zeros from it, and says nothing.
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
  if (before !== (await snapId(rbd, from))) throw notFound(`${spelled(from)} any more`);
}

async function snapId(rbd: RbdClient, from: SourceRef): Promise<number | undefined> {
  if (from.snap === undefined) return undefined;
  try {
    return (await rbd.info(from)).snaps.find(({ name, kind }) => kind === 'user' && name === from.snap)?.id;
  } catch (error) {
    if (isMissing(error)) throw notFound(spelled(from));
    throw error;
  }
}
