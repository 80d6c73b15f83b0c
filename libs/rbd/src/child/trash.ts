import koffi from 'koffi';
import type { ImageRef, TrashedImage } from '../types.ts';
import { progressOf, type Context } from './context.ts';
import { sizesOf } from './image-info.ts';
import { NativeError, type Out, type Pointer } from './native.ts';
import {
  rbdClose,
  rbdOpenByIdReadOnly,
  rbdTrashList,
  rbdTrashMove,
  rbdTrashRemove,
  rbdTrashRemoveWithProgress,
} from './rbd.ts';
import { readList, trashInfo } from './rbd-structs.ts';

export async function trashList({ cluster }: Context, pool: string, namespace?: string): Promise<TrashedImage[]> {
  const ioctx = await cluster.ioctx(pool, namespace);
  const found = await readList(trashInfo, async (memory, count) => {
    await rbdTrashList(ioctx, memory, count);
    return count[0];
  });
  return found.map(({ id, name }) => ({ id, name }));
}

export async function trashMove({ cluster }: Context, ref: ImageRef): Promise<void> {
  await rbdTrashMove(await cluster.ioctx(ref.pool, ref.namespace), ref.image, 0);
}

/**
 * With progress it can be stopped; but each report costs more than the removal of an object that is not there (see `remove`), so a small image
 * goes without.
 */
export async function trashRemove(
  context: Context,
  pool: string,
  namespace: string | undefined,
  id: string,
  { progressFromBytes }: { progressFromBytes: number },
): Promise<void> {
  const ioctx = await context.cluster.ioctx(pool, namespace);
  if ((await sizeOf(ioctx, id)) < progressFromBytes) await rbdTrashRemove(ioctx, id, false);
  else await rbdTrashRemoveWithProgress(ioctx, id, false, progressOf(context), null);
}

/** 0 for what an interrupted removal left: that cannot be opened. */
async function sizeOf(ioctx: Pointer, id: string): Promise<number> {
  const memory: Out<Pointer | null> = [null];
  try {
    await rbdOpenByIdReadOnly(ioctx, id, memory, null);
  } catch (error) {
    if (error instanceof NativeError && error.errno === koffi.os.errno['ENOENT']) return 0;
    throw error;
  }
  try {
    return (await sizesOf(memory[0]!)).sizeBytes;
  } finally {
    await rbdClose(memory[0]!);
  }
}
