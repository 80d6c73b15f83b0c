import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import type { SourceRef } from '../types.ts';
import { throwIfCanceled, type Context } from './context.ts';
import { readFully } from './image-source.ts';
import { withReadOnlyImage } from './open-image.ts';
import { chunkBytes } from './transfer.ts';

const readAhead = 8;

/** Writes `length` bytes of an image or a snapshot to the socket at this path, zeros included. */
export async function stream(
  context: Context,
  from: SourceRef,
  path: string,
  offset: number,
  length: number,
): Promise<void> {
  await withReadOnlyImage(context.cluster, from, async (image) => {
    const socket = createConnection(path);
    const failed = once(socket, 'close').then(() => {
      throw new Error('the reader went away');
    });
    failed.catch(() => {});
    socket.on('error', () => {});
    const end = offset + length;
    const read = async (start: number) => {
      const buffer = Buffer.allocUnsafeSlow(Math.min(chunkBytes, end - start));
      await readFully(image, buffer, start);
      return buffer;
    };
    const ahead: Promise<Buffer>[] = [];
    try {
      let next = offset;
      for (let done = 0; done < length;) {
        for (; ahead.length < readAhead && next < end; next += chunkBytes) ahead.push(read(next));
        const buffer = await ahead.shift()!;
        await Promise.race([write(context, socket, buffer, done, length), failed]);
        done += buffer.length;
        context.progress(done, length);
      }
      socket.end();
      await once(socket, 'finish');
    } finally {
      // The image is closed next, and then no read may be under way.
      await Promise.allSettled(ahead);
      socket.destroy();
    }
  });
}

/** Waits for a slow reader, and reports progress meanwhile: the reader is slow, not the cluster. */
async function write(context: Context, socket: Socket, buffer: Buffer, done: number, total: number): Promise<void> {
  throwIfCanceled(context, 'stream');
  if (socket.write(buffer)) return;
  const patience = setInterval(() => context.progress(done, total), 500);
  try {
    await once(socket, 'drain', { signal: context.signal });
  } finally {
    clearInterval(patience);
  }
}
