import { open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError } from '../../storage.port.js';

/**
 * Which volumes should be attached: one empty file each, which is also the mount point of an overlay. The directory is read once; asking for
 * a file itself would ask a mounted disk, which may hang. Nothing is synced: a power cut detaches everything anyway.
 */
export class AttachmentMarks {
  private constructor(
    readonly directory: string,
    private readonly marked: Set<string>,
  ) {}

  /** Nobody else may change the directory from here on. */
  static async open(directory: string): Promise<AttachmentMarks> {
    return new AttachmentMarks(directory, new Set(await readdir(directory)));
  }

  path(volume: string): string {
    return join(this.directory, volume);
  }

  all(): string[] {
    return [...this.marked];
  }

  has(volume: string): boolean {
    return this.marked.has(volume);
  }

  async add(volume: string): Promise<void> {
    try {
      const file = await open(this.path(volume), 'ax', 0o600);
      await file.close();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asStorageError(error, `attach ${volume}`);
    }
    this.marked.add(volume);
  }

  async remove(volume: string): Promise<void> {
    await rm(this.path(volume), { force: true }).catch((error: unknown) => {
      throw asStorageError(error, `detach ${volume}`);
    });
    this.marked.delete(volume);
  }
}
