import { chmod, open, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { runQemuImg } from '../qemu-img.js';
import { StorageError } from '../storage.port.js';
import type { LongWork } from '../storage.port.js';
import { readFully } from './read-fully.js';
import { qcow2VirtualSize } from './qcow2-size.js';

const sector = 512;

/** A local image file. */
export interface ImageFile {
  path: string;
  format: 'raw' | 'qcow2' | 'vmdk';
}

/** The size in bytes that the golden volume of `source` gets. Error `storage.bad_source`. */
export async function sourceSize(source: ImageFile): Promise<number> {
  if (!isAbsolute(source.path)) throw badSource(source, 'its path is not absolute');
  const bytes = await sizes[source.format](source.path).catch((error: Error) => {
    throw badSource(source, error.message);
  });
  if (!bytes) throw badSource(source, bytes === 0 ? 'it is empty' : `it has no ${source.format} header`);
  return Math.ceil(bytes / sector) * sector;
}

/**
 * Writes `source` to the new file `target` as raw with holes, and makes it read-only and durable. Raw, because reflinked clones need it,
 * and because it has no metadata that each of a hundred overlays would cache.
 */
export async function writeGolden(source: ImageFile, target: string, work: LongWork): Promise<void> {
  const total = await sourceSize(source);
  let done = 0;
  const { exitCode, stderr } = await runQemuImg(
    ['convert', '-p', '-O', 'raw', '--', withoutBacking(source), target],
    { addressSpace: 4 * 2 ** 30, fileSize: total },
    {
      signal: work.signal,
      onOutput: (text) => {
        // "-p" prints "    (12.34/100%)\r", several of them in one read.
        const percent = [...text.matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1)?.[1];
        const now = percent === undefined ? 0 : Math.floor((Number(percent) / 100) * total);
        if (now > done && now < total) work.onProgress?.((done = now), total);
      },
    },
  );
  if (exitCode !== 0) throw conversionError(source, stderr);
  await makeReadOnly(target);
  work.onProgress?.(total, total);
}

/** Nobody writes to it any more. qemu-img leaves its bytes in the page cache, so they are synced here. */
export async function makeReadOnly(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(path, 0o440);
}

const sizes: Record<ImageFile['format'], (path: string) => Promise<number | undefined>> = {
  raw: async (path) => (await stat(path)).size,
  qcow2: qcow2VirtualSize,
  vmdk: vmdkVirtualSize,
};

/**
 * The capacity in the header of a sparse VMDK (VMware, Virtual Disk Format 5.0, "Hosted Sparse Extent Header"); undefined when the file has
 * none. It is 0 in a file whose descriptor names other files, and those must not be opened.
 */
async function vmdkVirtualSize(path: string): Promise<number | undefined> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(20);
    await readFully(file, head, 0, head.length, 0);
    return head.toString('latin1', 0, 4) === 'KDMV' ? Number(head.readBigUInt64LE(12)) * sector : undefined;
  } finally {
    await file.close();
  }
}

/**
 * The image was inspected before. This makes sure again that QEMU opens no other file for it, whatever its header names: "json:" in a
 * file's name gives QEMU explicit options.
 */
function withoutBacking({ path, format }: ImageFile): string {
  const file = { driver: 'file', filename: path };
  return `json:${JSON.stringify(format === 'raw' ? { driver: 'raw', file } : { driver: format, file, backing: null })}`;
}

function conversionError(source: ImageFile, stderr: string): StorageError {
  if (/No space left on device|Disk quota exceeded/.test(stderr)) {
    return new StorageError(
      'storage.full',
      'No space left for the image. Free space or enlarge the storage, then retry.',
    );
  }
  return badSource(source, stderr.trim().split('\n').at(-1) || 'qemu-img was killed');
}

function badSource(source: ImageFile, reason: string): StorageError {
  return new StorageError(
    'storage.bad_source',
    `The image cannot be read as ${source.format}: ${reason}. Check the file with "qemu-img check" and upload it again.`,
  );
}
