import type { SourceRef } from '../types.ts';
import type { Context } from './context.ts';
import { copy, exportFile, importFile } from './copies.ts';
import { eachDifference } from './diff.ts';
import { namesLike } from './directory.ts';
import { flatten } from './flatten.ts';
import {
  handleClose,
  handleDiff,
  handleFlush,
  handleOpen,
  handleRead,
  handleWrite,
  handleWriteZeroes,
} from './handles.ts';
import { children, info, sizesOf } from './image-info.ts';
import { clone, create, list, remove, rename, resize } from './images.ts';
import { lockOwners } from './locks.ts';
import { metadataGet, metadataSet } from './metadata.ts';
import type { Out } from './native.ts';
import { withReadOnlyImage } from './open-image.ts';
import {
  monCommand,
  namespaceCreate,
  namespaceExists,
  namespaceList,
  namespaceRemove,
  poolId,
  poolStats,
} from './pools.ts';
import { radosVersion } from './rados.ts';
import { rbdVersion } from './rbd.ts';
import { trashList, trashMove, trashRemove } from './trash.ts';
import { snapCreate, snapProtect, snapRemove, snapUnprotect } from './snapshots.ts';
import { stream } from './stream.ts';

/** The operations that the parent may call, by name. */
export const operations = {
  children,
  clone,
  copy,
  create,
  exportFile,
  flatten,
  handleClose,
  handleDiff,
  handleFlush,
  handleOpen,
  handleRead,
  handleWrite,
  handleWriteZeroes,
  importFile,
  info,
  list,
  lockOwners,
  metadataGet,
  metadataSet,
  monCommand,
  namespaceCreate,
  namespaceExists,
  namespaceList,
  namespaceRemove,
  namesLike,
  poolId,
  poolStats,
  remove,
  rename,
  resize,
  snapCreate,
  snapProtect,
  snapRemove,
  snapUnprotect,
  stream,
  trashList,
  trashMove,
  trashRemove,
  usedBytes,
  versions,
};

export type Operations = typeof operations;

/** The bytes that the objects of an image or a snapshot take in the pool, without what a clone has from its parent. */
async function usedBytes(context: Context, ref: SourceRef): Promise<number> {
  return withReadOnlyImage(context.cluster, ref, async (image) => {
    const { sizeBytes } = await sizesOf(image);
    let used = 0;
    const options = { wholeObject: true, includeParent: false };
    await eachDifference(context, image, sizeBytes, options, (extent) => {
      if (extent.exists) used += extent.length;
    });
    return used;
  });
}

async function versions(_: Context): Promise<{ librados: string; librbd: string }> {
  const read = (version: typeof rbdVersion) => {
    const [major, minor, extra]: [Out<number>, Out<number>, Out<number>] = [[0], [0], [0]];
    version(major, minor, extra);
    return `${major[0]}.${minor[0]}.${extra[0]}`;
  };
  return { librados: read(radosVersion), librbd: read(rbdVersion) };
}
