import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { array, assert, asyncProperty, constantFrom, nat, record } from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ContentFile } from './catalog.js';
import { ChainReader } from './chain-reader.js';
import { writeOverlay } from './qcow2-overlay.js';
import { VolumeFiles } from './volume-files.js';

const run = promisify(execFile);
const MiB = 2 ** 20;
const GiB = 2 ** 30;

let base: string;
let files: VolumeFiles;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-chain-'));
  files = new VolumeFiles(base);
  await writeFile(join(base, 'aimg1.golden.raw'), Buffer.alloc(MiB, 0x61));
});
afterEach(() => rm(base, { recursive: true }));

/** Overlays above each other and above the golden volume, each written to by QEMU itself; newest first. */
async function makeChain(sizeBytes: number, layers: string[][]): Promise<ContentFile[]> {
  const chain: ContentFile[] = [files.golden('aimg1')];
  for (const [n, commands] of layers.entries()) {
    const overlay = files.overlay('aimg2', 'aimg1', n);
    await rm(overlay.path, { force: true });
    await writeOverlay(overlay.path, sizeBytes, { name: chain[0]!.path, format: chain[0]!.format });
    const args = commands.flatMap((command) => ['-c', command]);
    if (args.length > 0) await run('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...args, overlay.path]);
    chain.unshift(overlay);
  }
  return chain;
}

const openChain = (chain: ContentFile[]) => ChainReader.open(chain, () => Promise.reject(new Error('no tags here')));

describe('ChainReader', () => {
  it('reads what QEMU reads, whatever QEMU was told to write, zero and discard', async () => {
    const sizeBytes = 2 * MiB + 512;
    const command = record({
      verb: constantFrom('write -P 0x62', 'write -P 0x63', 'write -z', 'write -z -u', 'discard'),
      at: nat(sizeBytes / 512 - 1),
      sectors: nat(700),
    }).map(({ verb, at, sectors }) => `${verb} ${at * 512} ${Math.min(sectors + 1, sizeBytes / 512 - at) * 512}`);
    await assert(
      asyncProperty(array(array(command, { maxLength: 6 }), { minLength: 1, maxLength: 4 }), async (layers) => {
        const chain = await makeChain(sizeBytes, layers);
        const raw = join(base, 'expected.raw');
        await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', chain[0]!.path, raw]);
        const expected = await readFile(raw);
        const reader = await openChain(chain);
        expect(reader.sizeBytes).toBe(sizeBytes);
        expect((await reader.read(0, sizeBytes)).equals(expected)).toBe(true);
        const data = Buffer.alloc(sizeBytes);
        for await (const extent of reader.extents()) {
          expect(extent.data).toBe(true);
          (await reader.read(extent.offset, extent.length)).copy(data, extent.offset);
        }
        expect(data.equals(expected)).toBe(true);
        await reader.close();
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });

  it('finds the little that a large disk has, across its tables', async () => {
    const at = [0, GiB - 4096, GiB, 5 * GiB + 8192, 40 * GiB - 4096];
    const chain = await makeChain(
      40 * GiB,
      [at.slice(0, 3), at.slice(3)].map((all) => all.map((it) => `write -P 0x62 ${it} 4096`)),
    );
    const reader = await openChain(chain);
    const extents: [offset: number, length: number][] = [];
    for await (const { offset, length } of reader.extents()) extents.push([offset, length]);
    expect(extents).toEqual([
      [0, MiB],
      [GiB - 4096, 8192],
      [5 * GiB + 8192, 4096],
      [40 * GiB - 4096, 4096],
    ]);
    for (const offset of at) expect((await reader.read(offset, 4096)).equals(Buffer.alloc(4096, 0x62))).toBe(true);
    await reader.close();
  });

  it('reads on when its files are removed', async () => {
    const chain = await makeChain(2 * MiB, [['write -P 0x62 4096 4096']]);
    const reader = await openChain(chain);
    for (const { path } of chain) await rm(path);
    const extents: unknown[] = [];
    for await (const extent of reader.extents()) extents.push(extent);
    expect(extents).toEqual([{ offset: 0, length: MiB, data: true }]);
    expect((await reader.read(4095, 2)).toString()).toBe('ab');
    await reader.close();
  });

  it('refuses an overlay that is not one of ours', async () => {
    const chain = await makeChain(2 * MiB, [[]]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', chain[0]!.path, '2M']);
    await expect(openChain(chain)).rejects.toMatchObject({ code: 'storage.unavailable' });
  });
});
