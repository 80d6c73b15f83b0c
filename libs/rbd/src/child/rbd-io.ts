import koffi from 'koffi';
import pLimit from 'p-limit';
import { declare, type Pointer } from './native.ts';

/**
 * Reading and writing in librbd. These calls wait for the OSDs on one of 32 threads. Some threads are kept for all other calls, which would
 * otherwise wait behind an import of gigabytes.
 */
const library = koffi.load('librbd.so.1');
const share = pLimit(16);

function declareShared<Args extends unknown[]>(prototype: string): (...args: Args) => Promise<number> {
  const call = declare<Args>(library, prototype);
  return (...args) => share(() => call(...args));
}

/** Returns the number of bytes read: fewer than asked for at the end of the image. */
export const rbdRead = declareShared<[image: Pointer, offset: number, length: number, buffer: Buffer]>(
  'int64_t rbd_read(void *image, uint64_t offset, size_t length, void *buffer)',
);
export const rbdWrite = declareShared<[image: Pointer, offset: number, length: number, buffer: Buffer]>(
  'int64_t rbd_write(void *image, uint64_t offset, size_t length, const void *buffer)',
);
export const rbdWriteZeroes = declareShared<
  [image: Pointer, offset: number, length: number, zeroFlags: number, operationFlags: number]
>('int64_t rbd_write_zeroes(void *image, uint64_t offset, size_t length, int zero_flags, int operation_flags)');
export const rbdFlush = declareShared<[image: Pointer]>('int rbd_flush(void *image)');

export type DiffCallback = (offset: number, length: number, exists: number) => number;
koffi.proto('int RbdDiff(uint64_t offset, size_t length, int exists, void *data)');

export const rbdDiff = declareShared<
  [
    image: Pointer,
    fromSnap: string | null,
    offset: number,
    length: number,
    includeParent: number,
    wholeObject: number,
    callback: DiffCallback,
    data: null,
  ]
>(
  'int rbd_diff_iterate2(void *image, const char *from_snap, uint64_t offset, uint64_t length, uint8_t include_parent, ' +
    'uint8_t whole_object, RbdDiff *callback, void *data)',
);
