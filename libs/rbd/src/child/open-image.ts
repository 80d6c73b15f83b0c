import type { SourceRef } from '../types.ts';
import type { Cluster } from './cluster.ts';
import type { Out, Pointer } from './native.ts';
import { rbdClose, rbdOpen, rbdOpenReadOnly } from './rbd.ts';

/** Opens an image or a snapshot. When read-only, it is not watched: its metadata is that of the moment, and others do not notice it. */
export async function openImage(
  cluster: Cluster,
  ref: SourceRef,
  { readOnly }: { readOnly: boolean },
): Promise<Pointer> {
  const ioctx = await cluster.ioctx(ref.pool, ref.namespace);
  const memory: Out<Pointer | null> = [null];
  await (readOnly ? rbdOpenReadOnly : rbdOpen)(ioctx, ref.image, memory, ref.snap ?? null);
  return memory[0]!;
}

async function withImage<T>(image: Pointer, work: (image: Pointer) => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await work(image);
  } catch (error) {
    // The caller must get the first error.
    await rbdClose(image).catch(() => {});
    throw error;
  }
  await rbdClose(image);
  return result;
}

export const withReadOnlyImage = async <T>(
  cluster: Cluster,
  ref: SourceRef,
  work: (image: Pointer) => Promise<T>,
): Promise<T> => withImage(await openImage(cluster, ref, { readOnly: true }), work);

export const withWritableImage = async <T>(
  cluster: Cluster,
  ref: SourceRef,
  work: (image: Pointer) => Promise<T>,
): Promise<T> => withImage(await openImage(cluster, ref, { readOnly: false }), work);
