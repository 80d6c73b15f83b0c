import type { ImageRef, TrashedImage } from '../types.ts';
import { progressOf, type Context } from './context.ts';
import { rbdTrashList, rbdTrashMove, rbdTrashRemove, rbdTrashRemoveWithProgress } from './rbd.ts';
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

/** With progress it can be stopped, and takes longer: see `remove`. */
export async function trashRemove(
  context: Context,
  pool: string,
  namespace: string | undefined,
  id: string,
  { withProgress }: { withProgress: boolean },
): Promise<void> {
  const ioctx = await context.cluster.ioctx(pool, namespace);
  if (withProgress) await rbdTrashRemoveWithProgress(ioctx, id, false, progressOf(context), null);
  else await rbdTrashRemove(ioctx, id, false);
}
