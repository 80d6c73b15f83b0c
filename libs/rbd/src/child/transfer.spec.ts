import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Context } from './context.ts';
import { chunkBytes, dataIn, transfer, type Range, type Source } from './transfer.ts';

const KiB = 1024;

/** `transfer` needs no cluster. */
function contextOf(signal = new AbortController().signal) {
  const seen: [number, number][] = [];
  const context = { signal, progress: (done: number, total: number) => seen.push([done, total]) } as unknown as Context;
  return { context, seen };
}

function memorySource(bytes: Buffer, ranges: Range[], reads: Range[] = []): Source {
  return {
    sizeBytes: bytes.length,
    ranges: () => ranges,
    async read(buffer, offset) {
      reads.push({ offset, length: buffer.length });
      bytes.copy(buffer, 0, offset);
    },
  };
}

function memorySink(bytes: Buffer, writes: Range[] = []) {
  return {
    async write(buffer: Buffer, offset: number) {
      writes.push({ offset, length: buffer.length });
      buffer.copy(bytes, offset);
    },
  };
}

describe('transfer', () => {
  it('copies the ranges in chunks, and tells how far it is', async () => {
    const bytes = Buffer.alloc(3 * chunkBytes);
    randomBytes(chunkBytes + 1000).copy(bytes, 500);
    randomBytes(10).copy(bytes, bytes.length - 10);
    const ranges = [
      { offset: 500, length: chunkBytes + 1000 },
      { offset: bytes.length - 10, length: 10 },
    ];
    const copied = Buffer.alloc(bytes.length);
    const { context, seen } = contextOf();
    await transfer(memorySource(bytes, ranges), memorySink(copied), context);
    expect(copied.equals(bytes)).toBe(true);
    expect(seen.at(-1)).toEqual([bytes.length, bytes.length]);
    expect(seen.map(([done]) => done)).toEqual(seen.map(([done]) => done).sort((a, b) => a - b));
  });

  it('reads the ranges of a chunk at once, and writes no zeros', async () => {
    const bytes = Buffer.alloc(chunkBytes);
    bytes.fill(1, 0, 64 * KiB).fill(2, 512 * KiB, 576 * KiB);
    const ranges = [
      { offset: 0, length: 64 * KiB },
      { offset: 512 * KiB, length: 256 * KiB },
    ];
    const reads: Range[] = [];
    const writes: Range[] = [];
    const copied = Buffer.alloc(bytes.length);
    await transfer(memorySource(bytes, ranges, reads), memorySink(copied, writes), contextOf().context);
    expect(reads).toEqual([{ offset: 0, length: 768 * KiB }]);
    expect(writes).toEqual([
      { offset: 0, length: 64 * KiB },
      { offset: 512 * KiB, length: 64 * KiB },
    ]);
    expect(copied.equals(bytes)).toBe(true);
  });

  it('rejects with the first failure when no write is under way any more', async () => {
    const bytes = Buffer.alloc(20 * chunkBytes, 1);
    let underWay = 0;
    let writes = 0;
    const sink = {
      async write() {
        const mine = (writes += 1);
        underWay += 1;
        await new Promise((resolve) => setImmediate(resolve));
        underWay -= 1;
        if (mine === 3) throw new Error('no space');
      },
    };
    const source = memorySource(bytes, [{ offset: 0, length: bytes.length }]);
    await expect(transfer(source, sink, contextOf().context)).rejects.toThrow('no space');
    expect(underWay).toBe(0);
    expect(writes).toBeLessThan(20);
  });

  it('stops when it is cancelled', async () => {
    const bytes = Buffer.alloc(20 * chunkBytes, 1);
    const controller = new AbortController();
    let writes = 0;
    const sink = {
      async write() {
        writes += 1;
        controller.abort();
      },
    };
    const source = memorySource(bytes, [{ offset: 0, length: bytes.length }]);
    await expect(transfer(source, sink, contextOf(controller.signal).context)).rejects.toMatchObject({ errno: 125 });
    expect(writes).toBeLessThan(20);
  });
});

describe('dataIn', () => {
  const found = (buffer: Buffer) => [...dataIn(buffer)];

  it('finds what is not zeros, in blocks', () => {
    expect(found(Buffer.alloc(256 * KiB))).toEqual([]);
    expect(found(Buffer.alloc(100 * KiB, 1))).toEqual([{ offset: 0, length: 100 * KiB }]);
    const mixed = Buffer.alloc(256 * KiB + 7);
    mixed[70 * KiB] = 1;
    mixed[mixed.length - 1] = 1;
    expect(found(mixed)).toEqual([
      { offset: 64 * KiB, length: 64 * KiB },
      { offset: 256 * KiB, length: 7 },
    ]);
  });
});
