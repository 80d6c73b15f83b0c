import { describe, expect, it } from 'vitest';
import type { Extent } from '../../storage.port.js';
import { sentExtents } from './send-stream.js';

const unbounded = 2n ** 64n - 1n;

function record(type: number, fields: [at: number, value: number | bigint][], payload = 0): Buffer {
  const bytes = Buffer.alloc(312 + payload, payload > 0 ? 0xff : 0);
  bytes.fill(0, 0, 312);
  bytes.writeUInt32LE(type, 0);
  for (const [at, value] of fields) {
    if (typeof value === 'bigint') bytes.writeBigUInt64LE(value, at);
    else bytes.writeUInt32LE(value, at);
  }
  return bytes;
}

const begin = record(0, [[8, 0x2f5bacbacn]]);
const end = record(5, []);
const object = (id: bigint, type: number) =>
  record(
    1,
    [
      [8, id],
      [16, type],
      [28, 13],
    ],
    16,
  );
const write = (id: bigint, offset: bigint, length: bigint) =>
  record(
    3,
    [
      [8, id],
      [24, offset],
      [32, length],
    ],
    Number(length),
  );
const free = (id: bigint, offset: bigint, length: bigint) =>
  record(4, [
    [8, id],
    [16, offset],
    [24, length],
  ]);

const file = object(5n, 19);
const directory = object(4n, 20);

async function extents(parts: Buffer[], sizeBytes: number, chunk = 1000): Promise<Extent[]> {
  const bytes = Buffer.concat(parts);
  const chunks = (async function* () {
    for (let at = 0; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk);
  })();
  const all: Extent[] = [];
  for await (const extent of sentExtents(chunks, sizeBytes)) all.push({ ...extent });
  return all;
}

describe('extents of a send stream', () => {
  const stream = [
    begin,
    directory,
    write(4n, 0n, 512n),
    file,
    free(5n, 8192n, unbounded),
    write(5n, 0n, 1024n),
    write(5n, 1024n, 1024n),
    free(5n, 2048n, 2048n),
    write(5n, 7168n, 1024n),
    end,
  ];
  const expected = [
    { offset: 0, length: 2048, data: true },
    { offset: 2048, length: 2048, data: false },
    { offset: 7168, length: 1024, data: true },
    { offset: 8192, length: 1808, data: false },
  ];

  it('are those of the file, in order, joined and within its size, however the stream is cut', async () => {
    for (const chunk of [1, 7, 311, 312, 313, 5000, 1_000_000]) {
      expect(await extents(stream, 10_000, chunk)).toEqual(expected);
    }
  });

  it('end with the volume, whose last block may be longer', async () => {
    expect(await extents(stream, 7680)).toEqual([...expected.slice(0, 2), { offset: 7168, length: 512, data: true }]);
    expect(await extents([begin, file, free(5n, 0n, unbounded), end], 4096)).toEqual([
      { offset: 0, length: 4096, data: false },
    ]);
    expect(await extents([begin, end], 4096)).toEqual([]);
  });

  it('are refused when the stream is cut short, or is something else', async () => {
    const wrong = [[], [begin], [begin, file, end.subarray(0, 100)], [end], [begin, record(6, []), end]];
    for (const parts of [...wrong, stream.slice(0, -1), [record(0, [[8, 0xacbcba5b_2f000000n]]), end]]) {
      await expect(extents(parts, 4096)).rejects.toMatchObject({ code: 'storage.unavailable' });
    }
  });
});
