import type { FileHandle } from 'node:fs/promises';

/** What one file of a chain has in a range: nothing (look below), zeros, or data at offset `at` of the file. */
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
  /** From `offset` to `end`, or to the layer's end where that comes first: in order, without gaps. */
  runs(offset: number, end: number): AsyncIterable<Run>;
}
