import { open, rm } from 'node:fs/promises';
import type { ImageOptions, ImageRef, SourceRef } from '../types.ts';
import type { Context } from './context.ts';
import { fileSource } from './file-source.ts';
import { imageSink, imageSource } from './image-source.ts';
import { create } from './images.ts';
import { withReadOnlyImage, withWritableImage } from './open-image.ts';
import { rbdFlush } from './rbd-io.ts';
import { transfer, type Source } from './transfer.ts';

type CopyOptions = ImageOptions & { sizeBytes?: number };

/** Copies a raw file into a new image. */
export async function importFile(
  context: Context,
  path: string,
  destination: ImageRef,
  options: CopyOptions = {},
): Promise<void> {
  const file = await open(path, 'r');
  try {
    await fillNewImage(context, await fileSource(file), destination, options);
  } finally {
    await file.close();
  }
}

/** Copies an image or a snapshot into a new image without a parent. */
export async function copy(
  context: Context,
  from: SourceRef,
  destination: ImageRef,
  options: CopyOptions = {},
): Promise<void> {
  await withReadOnlyImage(context.cluster, from, async (image) =>
    fillNewImage(context, await imageSource(context, image), destination, options),
  );
}

/**
 * Creates the image and fills it. After an error the image stays: removing it here, late, could hit the image that the caller has created
 * again under that name.
 */
async function fillNewImage(
  context: Context,
  source: Source,
  destination: ImageRef,
  options: CopyOptions,
): Promise<void> {
  await create(context, destination, { ...options, sizeBytes: options.sizeBytes ?? source.sizeBytes });
  await withWritableImage(context.cluster, destination, async (image) => {
    await transfer(source, imageSink(image), context);
    await rbdFlush(image);
  });
}

/** Writes an image or a snapshot into a new raw file, with holes. */
export async function exportFile(context: Context, from: SourceRef, path: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await withReadOnlyImage(context.cluster, from, async (image) => {
      const source = await imageSource(context, image);
      await file.truncate(source.sizeBytes);
      await transfer(
        source,
        {
          async write(buffer, offset) {
            for (let written = 0; written < buffer.length;) {
              const { bytesWritten } = await file.write(buffer, written, buffer.length - written, offset + written);
              written += bytesWritten;
            }
          },
        },
        context,
      );
    });
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
