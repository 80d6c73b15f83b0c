import { type FileHandle, open } from 'node:fs/promises';
import { fileError } from './errors.js';

/** Holes are made of whole blocks of the file system; on most, a block has this many bytes. */
const blockBytes = 4096;
const zeros = Buffer.alloc(blockBytes);

/** A file that is written from some offset to its end; what is only zeros is left out, and takes no space. */
export class SparseFile {
  #position: number;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    from: number,
  ) {
    this.#position = from;
  }

  /** Keeps the first `from` bytes of the file; the rest, where it has more, is dropped. Throws CliError `cli.file`. */
  static async open(path: string, from: number): Promise<SparseFile> {
    return failing(path, async () => {
      const file = await open(path, from > 0 ? 'r+' : 'w');
      await file.truncate(from);
      return new SparseFile(path, file, from);
    });
  }

  get position(): number {
    return this.#position;
  }

  async write(chunk: Uint8Array): Promise<void> {
    const data = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    await failing(this.path, async () => {
      for (const { from, to } of runsOfData(data, this.#position))
        await this.file.write(data, from, to - from, this.#position + from);
    });
    this.#position += data.length;
  }

  /** Gives the file its length, which a hole at its end has not given it. */
  async close(): Promise<void> {
    await failing(this.path, async () => {
      try {
        await this.file.truncate(this.#position);
      } finally {
        await this.file.close();
      }
    });
  }
}

/** The parts of `data`, which goes to `offset`, that are not only zeros. */
function* runsOfData(data: Buffer, offset: number): Generator<{ from: number; to: number }> {
  let start = -1;
  for (let at = 0; at < data.length;) {
    const end = Math.min(data.length, at + blockBytes - ((offset + at) % blockBytes));
    const isHole = data.compare(zeros, 0, end - at, at, end) === 0;
    if (isHole && start >= 0) yield { from: start, to: at };
    if (isHole) start = -1;
    else if (start < 0) start = at;
    at = end;
  }
  if (start >= 0) yield { from: start, to: data.length };
}

async function failing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(path, error);
  }
}
