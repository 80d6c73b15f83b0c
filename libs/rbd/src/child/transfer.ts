import { throwIfCanceled, type Context } from './context.ts';

/** Where bytes come from; `ranges` yields, in order, what may have data. */
export interface Source {
  sizeBytes: number;
  ranges(): AsyncIterable<Range> | Iterable<Range>;
  /** Fills the buffer from this offset on. */
  read(buffer: Buffer, offset: number): Promise<void>;
}

export interface Range {
  offset: number;
  length: number;
}

/** Where bytes go. Everything that is not written must be zeros already. */
export interface Sink {
  write(buffer: Buffer, offset: number): Promise<void>;
}

/** Large enough to keep the OSDs of several objects busy, and a multiple of all common object sizes. */
export const chunkBytes = 4 * 2 ** 20;
const inFlight = 10;
/** Shorter runs of zeros are written, because a request costs more. */
const sparseBytes = 64 * 2 ** 10;
const zeros = Buffer.alloc(sparseBytes);

/** Copies everything that is not zeros, several chunks at a time. After it rejects, nothing is written any more. */
export async function transfer(source: Source, sink: Sink, context: Context): Promise<void> {
  const chunks = chunksOf(source.ranges());
  let done = 0;
  let failure: unknown;
  const worker = async () => {
    const memory = Buffer.allocUnsafeSlow(chunkBytes);
    for (;;) {
      throwIfCanceled(context, 'transfer');
      if (failure) return;
      const { value: chunk } = await chunks.next();
      if (!chunk) return;
      const buffer = memory.subarray(0, chunk.length);
      await source.read(buffer, chunk.offset);
      for (const { offset, length } of dataIn(buffer)) {
        throwIfCanceled(context, 'transfer');
        await sink.write(buffer.subarray(offset, offset + length), chunk.offset + offset);
      }
      done = Math.max(done, chunk.offset + chunk.length);
      context.progress(done, source.sizeBytes);
    }
  };
  // Wait for all of them: none may write to an image after its owner was told that it is done.
  await Promise.all(Array.from({ length: inFlight }, () => worker().catch((error: unknown) => (failure ??= error))));
  if (failure) throw failure as Error;
  context.progress(source.sizeBytes, source.sizeBytes);
}

/** Cuts ranges at multiples of `chunkBytes`, and joins those in the same chunk: one read instead of many. */
async function* chunksOf(ranges: AsyncIterable<Range> | Iterable<Range>): AsyncGenerator<Range, undefined> {
  let pending: Range | undefined;
  for await (const range of ranges) {
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end;) {
      const stop = Math.min(end, (Math.floor(offset / chunkBytes) + 1) * chunkBytes);
      if (pending && Math.floor(pending.offset / chunkBytes) === Math.floor(offset / chunkBytes)) {
        pending.length = stop - pending.offset;
      } else {
        if (pending) yield pending;
        pending = { offset, length: stop - offset };
      }
      offset = stop;
    }
  }
  if (pending) yield pending;
  return undefined;
}

/** The parts of a buffer that are not zeros. */
export function* dataIn(buffer: Buffer): Generator<Range> {
  let start = -1;
  for (let offset = 0; offset < buffer.length; offset += sparseBytes) {
    const block = buffer.subarray(offset, offset + sparseBytes);
    const empty = block.equals(block.length === sparseBytes ? zeros : zeros.subarray(0, block.length));
    if (!empty && start < 0) start = offset;
    if (empty && start >= 0) {
      yield { offset: start, length: offset - start };
      start = -1;
    }
  }
  if (start >= 0) yield { offset: start, length: buffer.length - start };
}
