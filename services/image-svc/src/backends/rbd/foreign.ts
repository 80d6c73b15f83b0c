import type { RbdClient } from '@m2/rbd';
import { StorageError } from '../storage.port.js';
import type { LongWork, Origin } from '../storage.port.js';
import { isRbd, notFound, unlessMissing } from './errors.js';
import { spelled } from './names.js';
import type { Places } from './names.js';
import { Progress } from './progress.js';
import { copyVerified, imageLayout, makeWhole } from './volumes.js';

/** Copies to a volume that M2 does not own from then on. */
export async function copyToForeign(
  rbd: RbdClient,
  places: Places,
  origin: Origin,
  foreign: string,
  work: LongWork,
): Promise<void> {
  const from = places.origin(origin);
  const to = places.foreign(foreign, { snap: false });
  const found = await unlessMissing(rbd.info(from));
  if (!found) throw notFound(spelled(from));
  if ((await rbd.list(to.pool, to.namespace)).some(({ name }) => name === to.image)) throw isTaken(foreign);
  const { sizeBytes } = found;
  const progress = new Progress(work, sizeBytes);
  const options = { ...(work.signal && { signal: work.signal }), onProgress: progress.step(0, 1) };
  try {
    await makeWhole(rbd, to, (partial) => copyVerified(rbd, from, partial, { ...imageLayout, sizeBytes }, options));
  } catch (error) {
    throw isRbd(error, 'exists') ? isTaken(foreign) : error;
  }
  progress.end();
}

const isTaken = (foreign: string) =>
  new StorageError('storage.exists_differently', `There is a volume ${foreign}. Choose another name.`);
