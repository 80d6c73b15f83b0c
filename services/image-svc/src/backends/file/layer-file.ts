import type { FileHandle } from 'node:fs/promises';

/** What one file of a chain says of a range: nothing (what it stands on does), zeros, or data, which is at `at` in the file. */
export interface Run {
  offset: number;
  length: number;
  state: 'absent' | 'zero' | 'data';
  at: number;
}

/** One file of a chain, open for reading. Nobody writes to it. */
export interface OpenLayer {
  readonly file: FileHandle;
  readonly sizeBytes: number;
  /** From `offset` to `end`, or to the layer's end where that is before: in order, without a gap. */
  runs(offset: number, end: number): AsyncIterable<Run>;
}

/** Exactly `length` bytes of `file`, zeros past its end, to `target` in `buffer`. */
export async function readFully(
  file: FileHandle,
  buffer: Buffer,
  target: number,
  length: number,
  position: number,
): Promise<void> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, target + done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  buffer.fill(0, target + done, target + length);
}
