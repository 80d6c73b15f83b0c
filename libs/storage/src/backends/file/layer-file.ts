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
