import { open } from 'node:fs/promises';
import type { LongWork, VolumeReader } from '../../storage.port.js';

const chunk = 2 ** 20;

/** Writes the content of `reader` to the new raw file `target`, durably. Holes stay holes. */
export async function copyVolume(reader: VolumeReader, target: string, work: LongWork): Promise<void> {
  const total = reader.sizeBytes;
  const file = await open(target, 'wx', 0o600);
  try {
    await file.truncate(total);
    for await (const extent of reader.extents()) {
      const end = extent.offset + extent.length;
      for (let at = extent.offset; at < end; at += chunk) {
        work.signal?.throwIfAborted();
        const bytes = await reader.read(at, Math.min(chunk, end - at));
        await file.write(bytes, 0, bytes.length, at);
        if (at + bytes.length < total) work.onProgress?.(at + bytes.length, total);
      }
    }
    work.signal?.throwIfAborted();
    await file.sync();
  } finally {
    await file.close();
  }
  work.onProgress?.(total, total);
}
