import { chmod, open, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { runQemuImg } from '../qemu-img.js';
import { StorageError } from '../storage.port.js';
import type { GoldenSource, ImportOptions } from '../storage.port.js';
import { qcow2VirtualSize } from './qcow2-overlay.js';

const sector = 512;

/** The size in bytes that the golden volume of `source` has. Error `storage.bad_source`. */
export async function sourceSize(source: GoldenSource): Promise<number> {
  if (!isAbsolute(source.path)) throw badSource(source, 'its path is not absolute');
  const bytes = await (source.format === 'raw' ? fileSize(source.path) : qcow2VirtualSize(source.path)).catch(
    (error: Error) => {
      throw badSource(source, error.message);
    },
  );
  if (!bytes) throw badSource(source, bytes === 0 ? 'it is empty' : 'it has no qcow2 header');
  return Math.ceil(bytes / sector) * sector;
}

/**
 * Writes `source` to the new file `target` as raw, holes kept as holes, and makes it read-only and durable. Raw because
 * reflinked clones need it, and because a raw golden volume has no metadata that each of a hundred overlays would cache.
 */
export async function writeGolden(source: GoldenSource, target: string, options: ImportOptions): Promise<void> {
  const total = await sourceSize(source);
  let done = 0;
  const { exitCode, stderr } = await runQemuImg(
    ['convert', '-p', '-f', source.format, '-O', 'raw', '--', source.path, target],
    { addressSpace: 4 * 2 ** 30, fileSize: total },
    {
      signal: options.signal,
      onOutput: (text) => {
        // "-p" prints "    (12.34/100%)\r", several of them in one read.
        const percent = [...text.matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1)?.[1];
        const now = percent === undefined ? 0 : Math.floor((Number(percent) / 100) * total);
        if (now > done && now < total) options.onProgress?.((done = now), total);
      },
    },
  );
  if (exitCode !== 0) throw conversionError(source, stderr);
  await makeReadOnly(target);
  options.onProgress?.(total, total);
}

async function fileSize(path: string): Promise<number> {
  return (await stat(path)).size;
}

async function makeReadOnly(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync(); // qemu-img leaves the bytes in the page cache
  } finally {
    await file.close();
  }
  await chmod(path, 0o440);
}

function conversionError(source: GoldenSource, stderr: string): StorageError {
  if (/No space left on device|Disk quota exceeded/.test(stderr)) {
    return new StorageError(
      'storage.full',
      'No space left for the image. Free space or enlarge the storage, then retry.',
    );
  }
  return badSource(source, stderr.trim().split('\n').at(-1) ?? 'qemu-img was killed');
}

function badSource(source: GoldenSource, reason: string): StorageError {
  return new StorageError(
    'storage.bad_source',
    `The image cannot be read as ${source.format}: ${reason}. Check the file with "qemu-img check" and upload it again.`,
  );
}
