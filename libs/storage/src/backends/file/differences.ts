import type { Extent, VolumeReader } from '../../storage.port.js';

const chunk = 2 ** 20;
const block = 64 * 1024;
const zeros = Buffer.alloc(block);

/** The differences between two volumes, found by reading all data of both; `data: false` is zeros in the newer one. */
export async function* differences(newer: VolumeReader, older: VolumeReader): AsyncIterable<Extent> {
  for await (const at of chunksWithData(newer, older)) {
    const length = Math.min(chunk, newer.sizeBytes - at);
    const [now, then] = [await newer.read(at, length), await padded(older, at, length)];
    for (let start = 0; start < length; start += block) {
      const bytes = now.subarray(start, start + block);
      if (bytes.equals(then.subarray(start, start + block))) continue;
      const data = !bytes.equals(zeros.subarray(0, bytes.length));
      yield { offset: at + start, length: bytes.length, data };
    }
  }
}

/** The offsets of the chunks in which either has data, in order. */
async function* chunksWithData(newer: VolumeReader, older: VolumeReader): AsyncIterable<number> {
  const readers = [newer, older].map((reader) => chunksOf(reader)[Symbol.asyncIterator]());
  const next = await Promise.all(readers.map((reader) => reader.next()));
  for (;;) {
    const offsets = next.map((it) => (it.done ? Infinity : it.value));
    const at = Math.min(...offsets);
    if (at >= newer.sizeBytes) return;
    yield at;
    for (const [n, offset] of offsets.entries()) if (offset === at) next[n] = await readers[n]!.next();
  }
}

async function* chunksOf(reader: VolumeReader): AsyncGenerator<number, void> {
  let at = 0;
  for await (const { offset, length } of reader.extents()) {
    at = Math.max(at, Math.floor(offset / chunk) * chunk);
    for (; at < offset + length; at += chunk) yield at;
  }
}

/** The older volume was smaller: it reads as zeros there. */
async function padded(reader: VolumeReader, at: number, length: number): Promise<Buffer> {
  const there = Math.min(length, Math.max(0, reader.sizeBytes - at));
  const bytes = there > 0 ? await reader.read(at, there) : Buffer.alloc(0);
  return there === length ? bytes : Buffer.concat([bytes, Buffer.alloc(length - there)]);
}
