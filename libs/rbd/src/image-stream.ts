import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Call } from './connection.ts';
import { RbdError } from './rbd-error.ts';
import type { CallOptions, SourceRef } from './types.ts';

export interface ImageStream {
  /** The size of the whole image, whatever part of it is read. */
  sizeBytes: number;
  /** Ends after the last byte; fails with the call's error. Destroying it ends the reading. */
  stream: Readable;
}

/**
 * Reads an image through a separate socket: messages between the processes are copied and parsed whole, and a slow reader could not slow
 * down the sender.
 */
export async function openStream(
  call: Call,
  from: SourceRef,
  { start = 0, end }: { start?: number; end?: number },
  options: CallOptions,
): Promise<ImageStream> {
  const { sizeBytes } = await call('info', [from], options);
  const length = (end ?? sizeBytes) - start;
  if (start < 0 || length < 0 || start + length > sizeBytes) {
    throw new RbdError(
      'invalid',
      'readStream',
      `bytes ${start} to ${end} are not all in an image of ${sizeBytes} bytes`,
    );
  }
  // The directory belongs to us alone, so nobody else connects.
  const directory = await mkdtemp(join(tmpdir(), 'm2-rbd-'));
  const server = createServer();
  try {
    const path = join(directory, 'socket');
    server.listen(path);
    await once(server, 'listening');
    const connected = once(server, 'connection') as Promise<[Socket]>;
    const sent = call('stream', [from, path, start, length], options);
    // It ends without a connection only when it fails.
    const [socket] = await Promise.race([connected, sent.then(() => connected)]);
    return { sizeBytes, stream: Readable.from(received(socket, sent), { objectMode: false }) };
  } finally {
    server.close();
    await rm(directory, { recursive: true });
  }
}

/** A dead sender closes its socket like one that has finished. The call's answer tells them apart. */
async function* received(socket: Socket, sent: Promise<void>): AsyncGenerator<Buffer> {
  // Whoever destroys the stream does not wait for the answer.
  sent.catch(() => {});
  for await (const chunk of socket) yield chunk as Buffer;
  await sent;
}
