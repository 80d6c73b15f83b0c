import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asStorageError } from '../../storage.port.js';

/** Makes `target` share all extents of `source`, writable, `sizeBytes` long (what is past the source's end reads as zeros). */
export async function reflink(source: string, target: string, sizeBytes: number): Promise<void> {
  // Forced: without it Node copies every byte, holes included, where the file system cannot share.
  await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE);
  await chmod(target, 0o600); // the golden file's read-only mode was copied too
  await resizeFile(target, sizeBytes);
}

/** What is past the old end reads as zeros. */
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

/** Whether the file system of `directory` shares extents between files: ext4 and tmpfs do not, XFS and btrfs do. */
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
