import { sharedCeph, type TestCeph } from '@m2/lab/testing';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MemoryVolume } from './memory-volume.fixture.js';
import { produce } from './pieces.js';
import { type DiffNames, rbdDiffPieces } from './rbd-diff.js';

const MiB = 2 ** 20;
let directory: string;
let ceph: TestCeph | undefined;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'm2-diff-'));
  ceph = await sharedCeph();
});
afterAll(async () => {
  await ceph?.stop();
  await rm(directory, { recursive: true });
});

const asUser = () => ['--conf', ceph!.conf, '--id', ceph!.user];
const rbd = async (...args: string[]) => (await promisify(execFile)('rbd', [...asUser(), ...args])).stdout;

/** Ceph's own reader of the format. */
async function importDiff(volume: MemoryVolume, since: string | undefined, names: DiffNames, image: string) {
  const child = spawn('rbd', [...asUser(), 'import-diff', '--no-progress', '-', image], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const [[code], said] = await Promise.all([
    once(child, 'close'),
    text(child.stderr),
    pipeline(produce(volume, rbdDiffPieces(volume, since, names)), child.stdin).catch(() => {}),
  ]);
  if (code !== 0) throw new Error(said);
}

describe('what Ceph makes of our diffs', () => {
  it('is the volume, tag by tag', async () => {
    const image = `${ceph!.imagePool}/copy`;
    await rbd('create', '--size', '1M', image);
    const first = new MemoryVolume(12 * MiB, [
      [512, randomBytes(512)],
      [3 * MiB, randomBytes(6 * MiB)],
    ]);
    await importDiff(first, undefined, { to: 'tag1' }, image);

    // Larger, with a part that is new and one that became zeros.
    const second = new MemoryVolume(
      16 * MiB,
      [
        [512, first.bytes(512, 512)],
        [5 * MiB, first.bytes(5 * MiB, 4 * MiB)],
        [15 * MiB, randomBytes(1000)],
      ],
      [
        { offset: 3 * MiB, length: 2 * MiB, data: false },
        { offset: 15 * MiB, length: MiB, data: true },
      ],
    );
    await importDiff(second, 'tag1', { from: 'tag1', to: 'tag2' }, image);
    for (const [tag, volume] of [
      ['tag1', first],
      ['tag2', second],
    ] as const) {
      const path = join(directory, tag);
      await rbd('export', '--no-progress', `${image}@${tag}`, path);
      expect((await readFile(path)).equals(volume.bytes())).toBe(true);
    }
    // The wrong order would destroy it, and is refused because of the snapshots' names.
    await expect(importDiff(second, 'tag9', { from: 'tag9', to: 'tag3' }, image)).rejects.toThrow('tag9');
  });
});
