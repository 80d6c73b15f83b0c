import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SparseFile } from './sparse-file.js';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'm2-sparse-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const write = async (path: string, from: number, chunks: Uint8Array[]) => {
  const file = await SparseFile.open(path, from);
  for (const chunk of chunks) await file.write(chunk);
  expect(file.position).toBe(from + Buffer.concat(chunks).length);
  await file.close();
};

it('has what was written to it, however it was cut and whatever was there', async () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.nat({ max: 20_000 }).map((length) => new Uint8Array(length)),
    fc.nat({ max: 9_000 }).map((length) => new Uint8Array(length).fill(7)),
  );
  const path = join(dir, 'any');
  await fc.assert(
    fc.asyncProperty(fc.array(piece), fc.array(piece), async (first, second) => {
      await write(path, 0, first);
      const half = Buffer.concat(first).length >> 1;
      await write(path, half, second);
      const expected = Buffer.concat([Buffer.concat(first).subarray(0, half), ...second]);
      expect((await readFile(path)).equals(expected)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it('takes no space for what is empty, to its very end', async () => {
  const path = join(dir, 'holes');
  const empty = new Uint8Array(1 << 20);
  await write(path, 0, [empty, Buffer.from('data'), empty.subarray(4), empty]);
  const { size, blocks } = await stat(path);
  expect(size).toBe(3 << 20);
  expect(blocks * 512).toBeLessThan(100_000);
});

it('says which file it is that cannot be written', async () => {
  await expect(SparseFile.open(join(dir, 'nowhere', 'x'), 0)).rejects.toMatchObject({
    code: 'cli.file',
    detail: expect.stringContaining('nowhere') as string,
  });
});
