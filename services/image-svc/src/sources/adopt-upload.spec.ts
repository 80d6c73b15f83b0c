import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adoptUpload } from './source.js';

const bytes = randomBytes(2_500_000);
const sha256 = createHash('sha256').update(bytes).digest('hex');
let base: string;
let path: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-adopt-'));
  path = join(base, 'upload');
  await writeFile(path, bytes);
});
afterEach(() => rm(base, { recursive: true }));

describe('adoptUpload', () => {
  it('hashes the file where it is, with progress', async () => {
    const done: [number, number | undefined][] = [];
    const options = { sha256, onProgress: (now: number, total: number | undefined) => done.push([now, total]) };
    expect(await adoptUpload(path, options)).toEqual({ path, bytes: bytes.length, sha256 });
    expect(done.at(-1)).toEqual([bytes.length, bytes.length]);
    expect(done.length).toBeGreaterThan(1);
  });

  it('refuses another checksum, stops when it is told to, and leaves the file both times', async () => {
    await expect(adoptUpload(path, { sha256: '0'.repeat(64) })).rejects.toMatchObject({
      code: 'image.checksum_mismatch',
    });
    const reason = new Error('stopped');
    await expect(adoptUpload(path, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await readFile(path)).equals(bytes)).toBe(true);
  });
});
