import { constants } from 'node:fs';
import { open, readlink, realpath } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { isAbsolute, sep } from 'node:path';
import { ImageError } from '@m2/storage';
import type { StagingFile } from './staging-file.js';

/**
 * Copies a file of this machine, if it is a regular file and really below one of `directories`. Errors: `image.source_forbidden`,
 * `image.source_unreachable`, those of StagingFile, and the signal's reason.
 */
export async function copyLocalFile(
  path: string,
  directories: readonly string[],
  staging: StagingFile,
  signal?: AbortSignal,
): Promise<void> {
  const file = await openAllowed(path, directories);
  try {
    const { size } = await file.stat();
    staging.announce(size);
    const buffer = Buffer.alloc(1 << 20);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, staging.bytes);
      if (bytesRead === 0) break;
      await staging.write(buffer.subarray(0, bytesRead), size);
    }
    if (staging.bytes < size) {
      throw new ImageError(
        'image.truncated',
        `${path} became shorter while it was read. Import it when it is complete.`,
      );
    }
  } finally {
    await file.close();
  }
}

/**
 * Checks twice: before the file is opened, because opening a device can have an effect; and again when it is open, because a directory of
 * the path may have become a symbolic link meanwhile.
 */
async function openAllowed(path: string, directories: readonly string[]): Promise<FileHandle> {
  if (!isAbsolute(path) || path.includes('\0')) throw forbidden(path);
  const roots = await Promise.all(directories.map((directory) => realpath(directory).catch(() => undefined)));
  const inside = (real: string) =>
    roots.some((root) => root !== undefined && real.startsWith(root.endsWith(sep) ? root : root + sep));
  const real = await realpath(path).catch((error: unknown) => {
    // The path as given decides the error: nobody learns whether a file exists elsewhere.
    throw directories.some((root) => path.startsWith(root + sep)) && !path.includes('..')
      ? new ImageError('image.source_unreachable', `${path} cannot be read. Check the path.`, { cause: error })
      : forbidden(path);
  });
  if (!inside(real)) throw forbidden(path);
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;
  const file = await open(real, flags).catch((error: unknown) => {
    throw new ImageError('image.source_unreachable', `${path} cannot be opened. Check its permissions.`, {
      cause: error,
    });
  });
  try {
    const opened = await readlink(`/proc/self/fd/${file.fd}`);
    if (!inside(opened) || !(await file.stat()).isFile()) throw forbidden(path);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

function forbidden(path: string): ImageError {
  return new ImageError(
    'image.source_forbidden',
    `${path} is not a file in a directory that images may come from. Move it there, or ask the operator to allow its directory.`,
  );
}
