import koffi from 'koffi';
import type { ImageRef } from '../types.ts';
import type { Context } from './context.ts';
import { NativeError, type Out } from './native.ts';
import { withReadOnlyImage, withWritableImage } from './open-image.ts';
import { rbdMetadataGet, rbdMetadataSet } from './rbd.ts';

/** Longer than any value of ours. */
const maxBytes = 256;

export async function metadataSet({ cluster }: Context, ref: ImageRef, key: string, value: string): Promise<void> {
  await withWritableImage(cluster, ref, (image) => rbdMetadataSet(image, key, value));
}

export async function metadataGet({ cluster }: Context, ref: ImageRef, key: string): Promise<string | undefined> {
  const value = Buffer.alloc(maxBytes);
  const size: Out<number> = [maxBytes];
  try {
    await withReadOnlyImage(cluster, ref, (image) => rbdMetadataGet(image, key, value, size));
  } catch (error) {
    // The image exists: it was opened. So the key is missing.
    const absent = error instanceof NativeError && error.errno === koffi.os.errno['ENOENT'];
    if (absent && error.call === 'rbd_metadata_get') return undefined;
    throw error;
  }
  return value.toString('utf8', 0, value.indexOf(0));
}
