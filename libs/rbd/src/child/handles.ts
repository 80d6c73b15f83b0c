import koffi from 'koffi';
import type { Extent, SourceRef } from '../types.ts';
import type { Context } from './context.ts';
import { eachDifference, type DiffOptions } from './diff.ts';
import { sizesOf } from './image-info.ts';
import { NativeError, type Out, type Pointer } from './native.ts';
import { openImage } from './open-image.ts';
import { rbdClose, rbdSnapGetId } from './rbd.ts';
import { rbdFlush, rbdRead, rbdWrite, rbdWriteZeroes } from './rbd-io.ts';

interface OpenImage {
  image: Pointer;
  /** The snapshot that a watched image was opened at. */
  snap: { name: string; id: number } | undefined;
}

const images = new Map<number, OpenImage>();
let lastHandle = 0;

function openImageOf(handle: number): OpenImage {
  const open = images.get(handle);
  if (open === undefined) throw new NativeError('handle', koffi.os.errno['EINVAL']!, 'the image was closed');
  return open;
}

const imageOf = (handle: number): Pointer => openImageOf(handle).image;

export async function handleOpen(
  { cluster }: Context,
  ref: SourceRef,
  { readOnly }: { readOnly: boolean },
): Promise<{ handle: number; sizeBytes: number; objectBytes: number }> {
  const image = await openImage(cluster, ref, { readOnly });
  try {
    const watched = ref.snap !== undefined && !readOnly;
    const snap = watched ? { name: ref.snap!, id: await snapId(image, ref.snap!) } : undefined;
    const sizes = await sizesOf(image);
    const handle = (lastHandle += 1);
    images.set(handle, { image, snap });
    return { handle, ...sizes };
  } catch (error) {
    await rbdClose(image).catch(() => {});
    throw error;
  }
}

export async function handleRead(_: Context, handle: number, offset: number, length: number): Promise<Buffer> {
  const { image, snap } = openImageOf(handle);
  const buffer = Buffer.allocUnsafeSlow(length);
  const read = await rbdRead(image, offset, length, buffer);
  // librbd reads zeros from a snapshot that was removed meanwhile. A watched image knows that without a request.
  if (snap && (await snapId(image, snap.name)) !== snap.id) {
    throw new NativeError('rbd_read', koffi.os.errno['ENOENT']!, 'the snapshot was removed');
  }
  return buffer.subarray(0, read);
}

async function snapId(image: Pointer, name: string): Promise<number> {
  const id: Out<number> = [0];
  await rbdSnapGetId(image, name, id);
  return id[0];
}

export async function handleWrite(_: Context, handle: number, offset: number, data: Uint8Array): Promise<void> {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  await rbdWrite(imageOf(handle), offset, buffer.length, buffer);
}

export async function handleWriteZeroes(_: Context, handle: number, offset: number, length: number): Promise<void> {
  await rbdWriteZeroes(imageOf(handle), offset, length, 0, 0);
}

export async function handleFlush(_: Context, handle: number): Promise<void> {
  await rbdFlush(imageOf(handle));
}

export async function handleDiff(context: Context, handle: number, options: DiffOptions): Promise<Extent[]> {
  const image = imageOf(handle);
  const { sizeBytes } = await sizesOf(image);
  const extents: Extent[] = [];
  await eachDifference(context, image, sizeBytes, options, (extent) => extents.push(extent));
  return extents;
}

/** Closing twice is no error. The caller must have no request under way. */
export async function handleClose(_: Context, handle: number): Promise<void> {
  const open = images.get(handle);
  images.delete(handle);
  if (open !== undefined) await rbdClose(open.image);
}

export async function closeAllHandles(): Promise<void> {
  const open = [...images.values()];
  images.clear();
  await Promise.allSettled(open.map(({ image }) => rbdClose(image)));
}
