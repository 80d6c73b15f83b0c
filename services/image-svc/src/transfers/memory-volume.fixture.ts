import type { Extent, VolumeReader } from '@m2/storage';

/** A volume in memory: data at offsets, zeros everywhere else. It records what was read. */
export class MemoryVolume implements VolumeReader {
  readonly reads: { offset: number; length: number }[] = [];
  inFlight = 0;
  mostInFlight = 0;
  isOpen = true;
  /** Reads wait for this promise, and fail when it rejects. */
  gate: Promise<unknown> = Promise.resolve();

  constructor(
    readonly sizeBytes: number,
    private readonly data: [offset: number, bytes: Buffer][],
    /** What `extents(since)` returns. */
    private readonly changed: Extent[] = [],
  ) {}

  async *extents(since?: string): AsyncGenerator<Extent> {
    if (since !== undefined) return yield* this.changed;
    for (const [offset, bytes] of this.data) yield { offset, length: bytes.length, data: true };
  }

  async read(offset: number, length: number): Promise<Buffer> {
    if (offset < 0 || length <= 0 || offset + length > this.sizeBytes) throw new RangeError(`${offset}+${length}`);
    if (!this.isOpen) throw new Error('it is closed');
    this.reads.push({ offset, length });
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    try {
      await this.gate;
      return this.bytes(offset, length);
    } finally {
      this.inFlight -= 1;
    }
  }

  async close(): Promise<void> {
    if (this.inFlight > 0) throw new Error('it is being read');
    this.isOpen = false;
  }

  bytes(offset = 0, length = this.sizeBytes): Buffer {
    const result = Buffer.alloc(length);
    for (const [at, bytes] of this.data) {
      const from = Math.max(at, offset);
      const to = Math.min(at + bytes.length, offset + length);
      if (from < to) bytes.copy(result, from - offset, from - at, to - at);
    }
    return result;
  }
}

export async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
