import type { Context } from './context.ts';
import { eachDifference } from './diff.ts';
import { sizesOf } from './image-info.ts';
import type { Pointer } from './native.ts';
import { rbdRead, rbdWrite } from './rbd-io.ts';
import type { Range, Sink, Source } from './transfer.ts';

/** An open image or snapshot; for a clone, with what it has from its parent. */
export async function imageSource(context: Context, image: Pointer): Promise<Source> {
  const { sizeBytes } = await sizesOf(image);
  return {
    sizeBytes,
    async *ranges() {
      const ranges: Range[] = [];
      await eachDifference(context, image, sizeBytes, { wholeObject: true }, (extent) => {
        if (extent.exists) ranges.push(extent);
      });
      yield* ranges;
    },
    read: (buffer, offset) => readFully(image, buffer, offset),
  };
}

export async function readFully(image: Pointer, buffer: Buffer, offset: number): Promise<void> {
  const read = await rbdRead(image, offset, buffer.length, buffer);
  // Only after the end of the image, which may have moved since we asked for it.
  buffer.fill(0, read);
}

export const imageSink = (image: Pointer): Sink => ({
  write: async (buffer, offset) => {
    await rbdWrite(image, offset, buffer.length, buffer);
  },
});
