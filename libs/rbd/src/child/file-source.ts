import type { FileHandle } from 'node:fs/promises';
import koffi from 'koffi';
import { NativeError } from './native.ts';
import type { Range, Source } from './transfer.ts';

/** What lseek(2) calls SEEK_DATA and SEEK_HOLE. */
const seek = { data: 3, hole: 4 };
const lseek = koffi.load('libc.so.6').func('int64_t lseek(int file, int64_t offset, int whence)');

/** A raw image in a file. Its holes are skipped where the file system knows them. */
export async function fileSource(file: FileHandle): Promise<Source> {
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    ranges: () => dataRanges(file.fd, size),
    async read(buffer, offset) {
      for (let filled = 0; filled < buffer.length;) {
        const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, offset + filled);
        if (bytesRead === 0) throw new Error('the file became shorter while it was read');
        filled += bytesRead;
      }
    },
  };
}

async function* dataRanges(fd: number, size: number): AsyncGenerator<Range> {
  for (let offset = 0; offset < size;) {
    const start = await seekTo(fd, offset, seek.data);
    if (start === undefined) return;
    const end = Math.min((await seekTo(fd, start, seek.hole)) ?? size, size);
    yield { offset: start, length: end - start };
    offset = end;
  }
}

/** Returns undefined when there is no such place after the offset. */
function seekTo(fd: number, offset: number, whence: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    lseek.async(fd, offset, whence, (error: unknown, result: number) => {
      const errno = koffi.errno();
      if (error) reject(error as Error);
      else if (result >= 0) resolve(result);
      else if (errno === koffi.os.errno['ENXIO']) resolve(undefined);
      else reject(new NativeError('lseek', errno));
    });
  });
}
