import type { FileHandle } from 'node:fs/promises';

/** Reads exactly `length` bytes of `file` to `target` in `buffer`; zeros after the file's end. */
export async function readFully(
  file: FileHandle,
  buffer: Buffer,
  target: number,
  length: number,
  position: number,
): Promise<void> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, target + done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  buffer.fill(0, target + done, target + length);
}
