import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { runQemuImg } from '../../qemu-img.js';
import { StorageError } from '../../storage.port.js';
import type { OpenLayer, Run } from './layer-file.js';

/** Shorter holes count as data, so that the map of a fragmented file stays small. */
const shortestHole = 64 * 1024;

/** A raw file. Its file system knows its holes. */
export class RawLayer implements OpenLayer {
  /** The extents of data, in order. */
  private data: Promise<{ offset: number; end: number }[]> | undefined;

  private constructor(
    private readonly path: string,
    readonly file: FileHandle,
    readonly sizeBytes: number,
  ) {}

  static async open(path: string): Promise<RawLayer> {
    const file = await open(path, 'r');
    try {
      return new RawLayer(path, file, (await file.stat()).size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *runs(offset: number, end: number): AsyncIterable<Run> {
    this.data ??= dataExtents(this.file.fd, this.path);
    const last = Math.min(end, this.sizeBytes);
    let at = offset;
    for (const extent of await this.data) {
      if (extent.end <= at) continue;
      if (extent.offset >= last) break;
      if (extent.offset > at) {
        yield { offset: at, length: extent.offset - at, state: 'zero', at: 0 };
        at = extent.offset;
      }
      const until = Math.min(extent.end, last);
      yield { offset: at, length: until - at, state: 'data', at };
      at = until;
    }
    if (at < last) yield { offset: at, length: last - at, state: 'zero', at: 0 };
  }
}

/**
 * Node has no SEEK_HOLE (lseek(2)), but qemu-img uses it. It gets our open file, because the file may have been removed since (proc(5),
 * /proc/pid/fd).
 */
async function dataExtents(fd: number, path: string): Promise<{ offset: number; end: number }[]> {
  const extents: { offset: number; end: number }[] = [];
  let rest = '';
  const { exitCode, stderr } = await runQemuImg(
    ['map', '--output=json', '-f', 'raw', '--', `/proc/${process.pid}/fd/${fd}`],
    { addressSpace: 2 ** 30, fileSize: 0 },
    {
      onOutput: (text) => {
        // One extent per line.
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          const found = /"start": (\d+), "length": (\d+),.*"data": true/.exec(line);
          if (!found) continue;
          const offset = Number(found[1]);
          const end = offset + Number(found[2]);
          const before = extents.at(-1);
          if (before && offset - before.end < shortestHole) before.end = end;
          else extents.push({ offset, end });
        }
      },
    },
  );
  if (exitCode !== 0) {
    throw new StorageError('storage.unavailable', `Could not read the map of ${path}: ${stderr.trim()}. Retry.`);
  }
  return extents;
}
