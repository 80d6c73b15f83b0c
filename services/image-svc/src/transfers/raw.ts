import type { VolumeReader } from '@m2/storage';
import type { Piece } from './pieces.js';

/** Shorter holes are read: a piece costs more than the zeros. */
const shortHole = 64 * 1024;

/** The bytes from `start` up to (not including) `end`; holes are not read. */
export async function* rawPieces(reader: VolumeReader, start: number, end: number): AsyncGenerator<Piece> {
  let at = start;
  for await (const { offset, length, data } of reader.extents()) {
    if (offset >= end) break;
    const to = Math.min(offset + length, end);
    if (!data || to <= at) continue;
    if (offset - at >= shortHole) {
      yield { zeros: offset - at };
      at = offset;
    }
    yield { offset: at, length: to - at };
    at = to;
  }
  if (at < end) yield { zeros: end - at };
}
