import type { FileHandle } from 'node:fs/promises';

const block = 64 * 1024;
const zeros = Buffer.alloc(block);

/**
 * Writes a chunk without its zeros: a raw disk image is mostly empty. Where nothing was written, zeros stay holes. A hole at the end does
 * not make the file longer; call `truncate` for that.
 */
export async function writeSparse(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < chunk.length; at += block) {
    const part = chunk.subarray(at, at + block);
    if (zeros.compare(part, 0, part.length, 0, part.length) === 0) continue;
    for (let done = 0; done < part.length;) {
      done += (await file.write(part, done, part.length - done, position + at + done)).bytesWritten;
    }
  }
}
