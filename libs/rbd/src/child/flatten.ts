import koffi from 'koffi';
import type { ImageRef } from '../types.ts';
import { progressOf, type Context } from './context.ts';
import { featureListOf } from './image-info.ts';
import { NativeError, type Pointer } from './native.ts';
import { withWritableImage } from './open-image.ts';
import { rbdFlatten, rbdRebuildObjectMap, rbdSnapCreate, rbdSnapRemove } from './rbd.ts';

/** No user of ours uses this name. */
const passing = '.flatten';

export async function flatten(context: Context, ref: ImageRef): Promise<void> {
  await withWritableImage(context.cluster, ref, async (image) => {
    if ((await featureListOf(image)).includes('object-map')) await correctObjectMap(context, image);
    await rbdFlatten(image, progressOf(context), null);
  });
}

/**
 * A killed writer may have marked an object in the object map and not written it; so may a flatten that ran out of space. librbd skips
 * marked objects and removes the parent, and then what those objects had from it reads as zeros (https://tracker.ceph.com/issues/68998,
 * fixed in 18.2.5 and 19.2.1). So each object is checked before. librbd corrects no mark that may belong to a write in flight
 * (librbd/operation/RebuildObjectMapRequest.cc); a snapshot makes all existing marks older than that.
 */
async function correctObjectMap(context: Context, image: Pointer): Promise<void> {
  await removePassing(image); // left by a call that was killed
  await rbdSnapCreate(image, passing);
  // The work itself has not begun, but the caller must see that something moves.
  const progress = progressOf({ ...context, progress: (_, total) => context.progress(0, total) });
  try {
    await rbdRebuildObjectMap(image, progress, null);
  } finally {
    await removePassing(image);
  }
}

async function removePassing(image: Pointer): Promise<void> {
  try {
    await rbdSnapRemove(image, passing);
  } catch (error) {
    if (!(error instanceof NativeError) || error.errno !== koffi.os.errno['ENOENT']) throw error;
  }
}
