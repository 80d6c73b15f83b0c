import { array, assert, asyncProperty, integer, tuple } from 'fast-check';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspectImage } from '@m2/storage';
import { writeSparse } from '../sources/sparse-write.js';
import { MemoryVolume } from './memory-volume.fixture.js';
import { produce } from './pieces.js';
import { qcow2File } from './qcow2.js';

const run = promisify(execFile);
const [MiB, GiB, TiB] = [2 ** 20, 2 ** 30, 2 ** 40];
const cluster = 65_536;
/** Clusters of the smallest file beside its data: header, refcount table and block, L1 and L2 table. */
const tables = 5;
let base: string;
const at = (name: string) => join(base, name);

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-qcow2-'));
});
afterAll(() => rm(base, { recursive: true }));

/** Writes the volume as qcow2 and as a sparse raw file, and lets QEMU compare them. */
async function judge(size: number, data: [number, Buffer][]): Promise<{ bytes: number; reads: number }> {
  const volume = new MemoryVolume(size, data);
  const file = await qcow2File(volume);
  const qcow2 = await open(at('disk.qcow2'), 'w');
  let written = 0;
  for await (const chunk of produce(volume, file.pieces())) {
    await writeSparse(qcow2, chunk, written);
    written += chunk.length;
  }
  await qcow2.truncate(written);
  await qcow2.close();
  expect(written).toBe(file.length);
  const raw = await open(at('disk.raw'), 'w');
  for (const [offset, bytes] of data) await writeSparse(raw, bytes, offset);
  await raw.truncate(Math.ceil(size / 512) * 512);
  await raw.close();
  await run('qemu-img', ['check', '-f', 'qcow2', at('disk.qcow2')]); // rejects on errors and on leaks
  await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', at('disk.qcow2'), at('disk.raw')]);
  const inspected = await inspectImage(at('disk.qcow2'), { maxVirtualBytes: 4 * TiB });
  expect(inspected).toEqual({ format: 'qcow2', virtualSizeBytes: Math.ceil(size / 512) * 512 });
  return { bytes: file.length, reads: volume.reads.reduce((sum, { length }) => sum + length, 0) };
}

describe('qcow2File', () => {
  it('holds a volume whose end is in the middle of a cluster', async () => {
    const { bytes } = await judge(3 * MiB + 512, [
      [0, randomBytes(MiB)],
      [3 * MiB - 100, randomBytes(612)],
    ]);
    expect(bytes).toBe((tables + 18) * cluster);
  });

  it('rounds a volume up to whole sectors, as QEMU counts', async () => {
    const { bytes } = await judge(100_001, [[99_000, randomBytes(1001)]]);
    expect(bytes).toBe((tables + 1) * cluster);
  });

  it('holds an empty volume', async () => {
    expect(await judge(10 * GiB, [])).toEqual({ bytes: (tables - 1) * cluster, reads: 0 });
  });

  it('holds a terabyte with little in it, in little', async () => {
    const few: [number, Buffer][] = [0, 511 * MiB, 700 * GiB - 1000, TiB - 4096].map((offset) => [
      offset,
      randomBytes(4096),
    ]);
    const { bytes, reads } = await judge(TiB, few);
    expect(bytes).toBeLessThan(2 * MiB);
    expect(reads).toBeLessThan(MiB);
  });

  it('holds more than one refcount block counts', async () => {
    // 2.1 GiB reported as data, mostly zeros, have more than 32768 clusters.
    const chunk = Buffer.alloc(70 * MiB);
    randomBytes(1000).copy(chunk, MiB);
    const data = Array.from({ length: 31 }, (_, index): [number, Buffer] => [index * 100 * MiB + 1, chunk]);
    const { bytes } = await judge(4 * GiB, data);
    const more = { refcountBlocks: 1, l2Tables: 5 };
    expect(bytes).toBe((tables + more.refcountBlocks + more.l2Tables + data.length * (1120 + 1)) * cluster);
  });

  it('holds whatever extents there are', async () => {
    const extents = array(tuple(integer({ min: 0, max: 300_000 }), integer({ min: 1, max: 200_000 })), {
      maxLength: 12,
    });
    await assert(
      asyncProperty(extents, integer({ min: 0, max: 100_000 }), async (gaps, rest) => {
        let offset = 0;
        const data = gaps.map(([gap, length]): [number, Buffer] => {
          const here = offset + gap;
          offset = here + length;
          return [here, randomBytes(length)];
        });
        await judge(offset + rest + 1, data);
      }),
      { numRuns: 25 },
    );
  });
});
