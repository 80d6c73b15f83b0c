import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError } from '../../storage.port.js';

/**
 * Makes `target` a writable copy of `source` that shares all of its extents, `sizeBytes` long; it reads as zeros after the source's end.
 */
export async function reflink(source: string, target: string, sizeBytes: number): Promise<void> {
  // FORCE: otherwise Node copies every byte, holes included, where the file system cannot share.
  await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE);
  await chmod(target, 0o600); // the read-only mode of the golden file was copied, too
  await resizeFile(target, sizeBytes);
}

/** What is after the old end reads as zeros. */
export async function resizeFile(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.truncate(sizeBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

const cannot = new Set(['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY', 'EINVAL', 'EXDEV']);

/** Whether the file system of `directory` shares extents between files: XFS and btrfs do, ext4 and tmpfs do not. */
export async function canReflink(directory: string): Promise<boolean> {
  const source = join(directory, `probe-${randomUUID()}`);
  const target = `${source}-clone`;
  try {
    await writeFile(source, Buffer.alloc(4096, 1), { flag: 'wx' });
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (cannot.has((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw asStorageError(error, `use ${directory}`);
  } finally {
    await Promise.all([rm(source, { force: true }), rm(target, { force: true })]);
  }
}
