import koffi from 'koffi';
import type { Child, ImageInfo, SnapInfo, SourceRef } from '../types.ts';
import type { Context } from './context.ts';
import { featuresOf } from './image-options.ts';
import { lockOwnersOf } from './locks.ts';
import { NativeError, type Out, type Pointer } from './native.ts';
import { withReadOnlyImage } from './open-image.ts';
import {
  rbdGetFeatures,
  rbdGetId,
  rbdGetParent,
  rbdListChildren,
  rbdListWatchers,
  rbdSnapIsProtected,
  rbdSnapKind,
  rbdSnapList,
  rbdStat,
} from './rbd.ts';
import { imageInfo, linkedImageSpec, readList, readOne, snapInfo, snapSpec, watcher } from './rbd-structs.ts';

/** Everything about an image or a snapshot. `sizeBytes` and `parent` are the snapshot's, the rest is the image's. */
export const info = ({ cluster }: Context, ref: SourceRef): Promise<ImageInfo> =>
  withReadOnlyImage(cluster, ref, async (image) => {
    const [sizes, id, features, parent, snaps, watchers, lockOwners] = await Promise.all([
      sizesOf(image),
      idOf(image),
      featureListOf(image),
      parentOf(image),
      snapsOf(image),
      watchersOf(image),
      lockOwnersOf(image),
    ]);
    return { id, ...sizes, features, ...(parent && { parent }), snaps, watchers, lockOwners };
  });

/** Clones of a snapshot; for an image, of all its snapshots. */
export const children = ({ cluster }: Context, ref: SourceRef): Promise<Child[]> =>
  withReadOnlyImage(cluster, ref, async (image) => {
    const found = await readList(linkedImageSpec, async (memory, count) => {
      await rbdListChildren(image, memory, count);
      return count[0];
    });
    return found.map((child) => ({
      pool: child.pool_name,
      namespace: child.pool_namespace,
      image: child.image_name,
      id: child.image_id,
      trashed: child.trash,
    }));
  });

export async function sizesOf(image: Pointer): Promise<{ sizeBytes: number; objectBytes: number }> {
  const stat = {} as { size: number; obj_size: number };
  await rbdStat(image, stat, koffi.sizeof(imageInfo));
  return { sizeBytes: stat.size, objectBytes: stat.obj_size };
}

export async function idOf(image: Pointer): Promise<string> {
  // An id has 12 to 32 characters (RBD_MAX_IMAGE_ID_LENGTH in rbd/rbd_types.h is 14 for new ones).
  const id = Buffer.alloc(64);
  await rbdGetId(image, id, id.length);
  return id.toString('utf8', 0, id.indexOf(0));
}

export async function featureListOf(image: Pointer): Promise<ImageInfo['features']> {
  const bits: Out<number> = [0];
  await rbdGetFeatures(image, bits);
  return featuresOf(bits[0]);
}

async function parentOf(image: Pointer): Promise<ImageInfo['parent']> {
  try {
    const [parent, snap] = await readOne([linkedImageSpec, snapSpec], (a, b) => rbdGetParent(image, a, b));
    return {
      pool: parent.pool_name,
      namespace: parent.pool_namespace,
      image: parent.image_name,
      snap: snap.name,
      trashed: parent.trash,
    };
  } catch (error) {
    if (error instanceof NativeError && error.errno === koffi.os.errno['ENOENT']) return undefined;
    throw error;
  }
}

/** rbd_snap_namespace_type_t of rbd/librbd.h. */
const snapKinds = ['user', 'group', 'trash', 'mirror'] as const;

async function snapsOf(image: Pointer): Promise<SnapInfo[]> {
  const snaps = await readList(snapInfo, (memory, count) => rbdSnapList(image, memory, count));
  return Promise.all(
    snaps.map(async ({ id, name, size }) => {
      const kind: Out<number> = [0];
      await rbdSnapKind(image, id, kind);
      const isProtected: Out<number> = [0];
      // Only a user's snapshot can be found by its name.
      if (kind[0] === 0) await rbdSnapIsProtected(image, name, isProtected);
      return { id, name, sizeBytes: size, protected: isProtected[0] === 1, kind: snapKinds[kind[0]] ?? 'group' };
    }),
  );
}

async function watchersOf(image: Pointer): Promise<string[]> {
  const found = await readList(watcher, async (memory, count) => {
    await rbdListWatchers(image, memory, count);
    return count[0];
  });
  return found.map(({ addr }) => addr);
}
