import { execFile } from 'node:child_process';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qcow2VirtualSize } from '../qcow2-size.js';
import { maxOverlayBytes, writeOverlay } from './qcow2-overlay.js';

const run = promisify(execFile);
const GiB = 2 ** 30;

let base: string;
const at = (name: string) => join(base, name);
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-overlay-'));
  await writeFile(at('golden.raw'), Buffer.alloc(65_536, 0x61));
});
afterEach(() => rm(base, { recursive: true }));

describe('writeOverlay', () => {
  it.each([65_536, GiB, GiB + 512, 10 * GiB, 2 ** 41, maxOverlayBytes])(
    'makes an overlay of %d bytes that QEMU finds no fault with, before and after it is written to',
    async (size) => {
      await truncate(at('golden.raw'), Math.min(size, GiB));
      await writeOverlay(at('disk.qcow2'), size, { name: 'golden.raw', format: 'raw' });
      expect(await qcow2VirtualSize(at('disk.qcow2'))).toBe(size);
      const { stdout } = await run('qemu-img', ['info', '--output=json', '-f', 'qcow2', at('disk.qcow2')]);
      expect(JSON.parse(stdout)).toMatchObject({
        'virtual-size': size,
        'cluster-size': 131_072,
        'backing-filename': 'golden.raw',
        'full-backing-filename': at('golden.raw'),
        'backing-filename-format': 'raw',
        'format-specific': { data: { compat: '1.1', 'extended-l2': true, corrupt: false } },
      });
      const check = () => run('qemu-img', ['check', '--output=json', '-f', 'qcow2', at('disk.qcow2')]);
      expect(JSON.parse((await check()).stdout)).toMatchObject({ 'check-errors': 0 });
      const ends = size === 65_536 ? 'read -P 0x61 60k 4k' : `write -P 0x63 ${size - 512} 512`;
      const commands = ['read -P 0x61 0 64k', 'write -P 0x62 512 4096', 'read -P 0x61 8k 48k', ends];
      await run('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), at('disk.qcow2')]);
      const after = JSON.parse((await check()).stdout) as Record<string, number>;
      expect(after).toMatchObject({ 'check-errors': 0 });
      expect([after['corruptions'], after['leaks']]).toEqual([undefined, undefined]);
    },
  );

  it('does not replace a file', async () => {
    await writeFile(at('disk.qcow2'), 'precious');
    await expect(writeOverlay(at('disk.qcow2'), GiB, { name: 'golden.raw', format: 'raw' })).rejects.toMatchObject({
      code: 'EEXIST',
    });
  });
});
