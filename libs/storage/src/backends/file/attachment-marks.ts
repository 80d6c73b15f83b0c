import { open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError } from '../../storage.port.js';

/**
 * Which volumes should be attached: one empty file each, which is also the mount point of an overlay. Read the directory to find out;
 * asking for the file itself would ask a mounted disk, which may hang. Nothing is synced: a power cut detaches everything anyway.
 */
export class AttachmentMarks {
  constructor(readonly directory: string) {}

  path(volume: string): string {
    return join(this.directory, volume);
  }

  async all(): Promise<Set<string>> {
    return new Set(await readdir(this.directory));
  }

  async add(volume: string): Promise<void> {
    try {
      const file = await open(this.path(volume), 'ax', 0o600);
      await file.close();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asStorageError(error, `attach ${volume}`);
    }
  }

  async remove(volume: string): Promise<void> {
    await rm(this.path(volume), { force: true }).catch((error: unknown) => {
      throw asStorageError(error, `detach ${volume}`);
    });
  }
}
