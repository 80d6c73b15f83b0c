import type { VolumeReader } from '@m2/storage';

/** A part of an answer: bytes in memory, a number of zeros, or bytes of the volume. */
export type Piece = Buffer | { zeros: number } | { offset: number; length: number };

/** The size of most of our RBD objects. It is large enough that the cost of a read itself does not count. */
const chunkBytes = 2 ** 20;
/** Reads at the same time: a volume on the network answers many as fast as one. This many chunks are in memory. */
const readsInFlight = 16;
const zeros = Buffer.alloc(chunkBytes);

/** The bytes of the pieces, in order, read ahead of the consumer. When it ends, nothing reads the volume any more. */
export async function* produce(
  reader: VolumeReader,
  pieces: Iterable<Piece> | AsyncIterable<Piece>,
): AsyncGenerator<Buffer, void, undefined> {
  const ahead: (Buffer | Promise<Buffer>)[] = [];
  try {
    for await (const piece of pieces) {
      for (const chunk of chunksOf(piece)) {
        if (ahead.length >= readsInFlight) yield await ahead.shift()!;
        ahead.push(start(reader, chunk));
      }
    }
    for (let next = ahead.shift(); next; next = ahead.shift()) yield await next;
  } finally {
    await Promise.allSettled(ahead);
  }
}

/** Chunks end at object boundaries, where objects are not smaller than chunks. */
function* chunksOf(piece: Piece): Generator<Piece> {
  if (Buffer.isBuffer(piece)) yield piece;
  else if ('zeros' in piece) {
    for (let left = piece.zeros; left > 0; left -= chunkBytes) yield { zeros: Math.min(left, chunkBytes) };
  } else {
    const end = piece.offset + piece.length;
    for (let offset = piece.offset; offset < end;) {
      const length = Math.min(end, (Math.floor(offset / chunkBytes) + 1) * chunkBytes) - offset;
      yield { offset, length };
      offset += length;
    }
  }
}

function start(reader: VolumeReader, chunk: Piece): Buffer | Promise<Buffer> {
  if (Buffer.isBuffer(chunk)) return chunk;
  if ('zeros' in chunk) return zeros.subarray(0, chunk.zeros);
  const read = reader.read(chunk.offset, chunk.length);
  read.catch(() => {}); // the consumer gets the error; until then it is not an unhandled rejection
  return read;
}
