import koffi from 'koffi';
import type { ImageName, ImageOptions, ImageRef, SnapRef } from '../types.ts';
import type { Cluster } from './cluster.ts';
import { progressOf, type Context } from './context.ts';
import { idOf } from './image-info.ts';
import { withImageOptions } from './image-options.ts';
import { NativeError } from './native.ts';
import { withReadOnlyImage, withWritableImage } from './open-image.ts';
import { radosRemove } from './rados.ts';
import { rbdClone, rbdCreate, rbdList, rbdRemove, rbdRename, rbdResize } from './rbd.ts';
import { imageSpec, readList } from './rbd-structs.ts';

export async function list({ cluster }: Context, pool: string, namespace?: string): Promise<ImageName[]> {
  const ioctx = await cluster.ioctx(pool, namespace);
  return readList(imageSpec, async (memory, count) => {
    await rbdList(ioctx, memory, count);
    return count[0];
  });
}

export async function create(
  { cluster }: Context,
  ref: ImageRef,
  options: ImageOptions & { sizeBytes: number },
): Promise<void> {
  const ioctx = await cluster.ioctx(ref.pool, ref.namespace);
  await withImageOptions(options, (native) => rbdCreate(ioctx, ref.image, options.sizeBytes, native));
}

export async function clone(
  { cluster }: Context,
  parent: SnapRef,
  child: ImageRef,
  options: ImageOptions = {},
): Promise<void> {
  const [from, to] = await Promise.all([
    cluster.ioctx(parent.pool, parent.namespace),
    cluster.ioctx(child.pool, child.namespace),
  ]);
  // A clone of format 2 may be in another namespace than its parent. The parent's snapshot needs no protection.
  const wanted = { ...options, cloneFormat: 2 };
  await withImageOptions(wanted, (native) => rbdClone(from, parent.image, parent.snap, to, child.image, native));
}

/**
 * Without progress: librbd reports every object that an image could have, even of an empty clone, and each report comes to this thread.
 * That takes ten times as long as the removal.
 */
export async function remove({ cluster }: Context, ref: ImageRef): Promise<void> {
  const ioctx = await cluster.ioctx(ref.pool, ref.namespace);
  try {
    await rbdRemove(ioctx, ref.image);
  } catch (error) {
    if (!(error instanceof NativeError) || error.errno !== koffi.os.errno['ENOENT']) throw error;
    // librbd first moves the image to the trash. In a full pool without a trash it cannot create one and returns ENOENT, which looks as if
    // the image were gone. Opening the image tells.
    await withReadOnlyImage(cluster, ref, async () => {});
    throw new NativeError(error.call, koffi.os.errno['ENOSPC']!, 'no room for the trash');
  }
}

/** Within its pool and namespace: librbd moves no image out of them. */
export async function rename({ cluster }: Context, ref: ImageRef, name: string): Promise<void> {
  const ioctx = await cluster.ioctx(ref.pool, ref.namespace);
  try {
    await rbdRename(ioctx, ref.image, name);
  } catch (error) {
    if (!(error instanceof NativeError) || error.errno !== koffi.os.errno['EEXIST']) throw error;
    if (!(await isHalfRenamed(cluster, ref, name))) throw error;
    await radosRemove(ioctx, `rbd_id.${name}`);
    await rbdRename(ioctx, ref.image, name);
  }
}

/**
 * Whether a rename of this image to the name was interrupted. librbd writes the object `rbd_id.<new name>` first, with the image's id, and
 * then the directory (librbd/operation/RenameRequest.cc). In between the image has both names, is listed under the old one, and no rename
 * to the new one succeeds any more.
 */
async function isHalfRenamed(cluster: Cluster, ref: ImageRef, name: string): Promise<boolean> {
  const idUnder = (image: string) => withReadOnlyImage(cluster, { ...ref, image }, idOf);
  const [ours, found] = await Promise.allSettled([idUnder(ref.image), idUnder(name)]);
  if (found.status === 'fulfilled') return ours.status === 'fulfilled' && ours.value === found.value;
  // Or the image with that id was removed since.
  return found.reason instanceof NativeError && found.reason.errno === koffi.os.errno['ENOENT'];
}

export async function resize(
  context: Context,
  ref: ImageRef,
  sizeBytes: number,
  { allowShrink = false }: { allowShrink?: boolean } = {},
): Promise<void> {
  await withWritableImage(context.cluster, ref, (image) =>
    rbdResize(image, sizeBytes, allowShrink, progressOf(context), null),
  );
}
