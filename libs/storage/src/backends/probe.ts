import { randomBytes, randomUUID } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError, StorageError } from '../storage.port.js';

/** Writes, syncs and reads one block in `directory`. A disk that only pretends to work fails the sync. */
export async function probeStorage(directory: string): Promise<void> {
  const path = join(directory, `probe-${randomUUID()}`);
  const block = randomBytes(4096);
  try {
    const file = await open(path, 'wx+', 0o600);
    try {
      await file.write(block, 0, block.length, 0);
      await file.sync();
      const { buffer } = await file.read(Buffer.alloc(block.length), 0, block.length, 0);
      if (!buffer.equals(block)) {
        throw new StorageError(
          'storage.unavailable',
          `${directory} reads other bytes than were written. Check its disk.`,
        );
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw asStorageError(error, `write to ${directory}`);
  } finally {
    await rm(path, { force: true });
  }
}
