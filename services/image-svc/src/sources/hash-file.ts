import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

/** The SHA-256 of a whole file, which may be updated further. Rejects with the reason of an aborted signal. */
export async function hashFile(
  file: FileHandle,
  signal: AbortSignal | undefined,
  onProgress?: (done: number) => void,
): Promise<Hash> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let at = 0; ;) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return hash;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
    onProgress?.(at);
  }
}
