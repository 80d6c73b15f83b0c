import type { ImageRef, RbdClient } from '@m2/rbd';
import { StorageError } from '../../storage.port.js';
import type { ForeignKey, LongWork, Origin } from '../../storage.port.js';
import { isRbd, notFound, undefinedIfMissing } from './errors.js';
import { formatRef } from './names.js';
import type { ImageLocations } from './names.js';
import { Progress } from './progress.js';
import { copyVerified, imageLayout, removeWithSnaps, untilWatchExpires } from './volumes.js';

/** Key in the copy's metadata that records which call made it. The name alone does not tell. */
const marker = 'm2.export';

/** Copies to a volume that M2 does not own after that. */
export async function copyToForeign(
  rbd: RbdClient,
  locations: ImageLocations,
  origin: Origin,
  foreign: string,
  work: LongWork & ForeignKey,
): Promise<void> {
  const from = locations.origin(origin);
  const to = locations.foreign(foreign, { snap: false });
  const found = await undefinedIfMissing(rbd.info(from));
  if (!found) throw notFound(formatRef(from));
  const { sizeBytes } = found;
  const progress = new Progress(work, sizeBytes);
  if (await isThere(rbd, to)) {
    if ((await rbd.metadataGet(to, marker)) !== work.key) throw isTaken(foreign);
    progress.end();
    return;
  }
  const partial = partialOf(to, work.key);
  await untilWatchExpires(() => removeWithSnaps(rbd, partial));
  const options = { ...(work.signal && { signal: work.signal }), onProgress: progress.step(0, 1) };
  try {
    await copyVerified(rbd, from, partial, { ...imageLayout, sizeBytes }, options);
    await rbd.metadataSet(partial, marker, work.key);
    await rbd.rename(partial, to.image);
  } catch (error) {
    // What cannot be removed now is removed by the next call with this key.
    await removeWithSnaps(rbd, partial).catch(() => {});
    throw isRbd(error, 'exists') ? isTaken(foreign) : error;
  }
  progress.end();
}

export async function ensureNoForeign(
  rbd: RbdClient,
  locations: ImageLocations,
  foreign: string,
  key: string,
): Promise<void> {
  const to = locations.foreign(foreign, { snap: false });
  await untilWatchExpires(() => removeWithSnaps(rbd, partialOf(to, key)));
  if ((await isThere(rbd, to)) && (await rbd.metadataGet(to, marker)) === key)
    await untilWatchExpires(() => removeWithSnaps(rbd, to));
}

/** The same for the same call, so that the next attempt finds what it left. */
const partialOf = (to: ImageRef, key: string): ImageRef => ({ ...to, image: `${to.image}.${key.slice(-8)}.partial` });

const isThere = async (rbd: RbdClient, { pool, namespace, image }: ImageRef) =>
  (await rbd.namesLike(pool, namespace, image)).includes(image);

const isTaken = (foreign: string) =>
  new StorageError('storage.exists_differently', `There is a volume ${foreign}. Choose another name.`);
