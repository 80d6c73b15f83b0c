import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { inspectImage } from './inspect.js';
import { checkVmdk } from './vmdk.js';

const qemuImg = (...args: string[]) => promisify(execFile)('qemu-img', args);
const MiB = 2 ** 20;

let base: string;
const at = (name: string) => join(base, name);
const inspect = (name: string, declared?: 'raw' | 'vmdk', maxVirtualBytes = 2 ** 40) =>
  inspectImage(at(name), { declared, maxVirtualBytes });

async function patched(from: string, ...patches: [position: number, bytes: Buffer | string][]): Promise<string> {
  const bytes = await readFile(at(from));
  for (const [position, patch] of patches) Buffer.from(patch as string, 'latin1').copy(bytes, position);
  await writeFile(at('patched.vmdk'), bytes);
  return 'patched.vmdk';
}
const u64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-vmdk-'));
  const disk = Buffer.concat([randomBytes(MiB), Buffer.alloc(40 * MiB), randomBytes(MiB)]);
  disk.write('\x55\xaa', 510, 'latin1');
  await writeFile(at('disk.raw'), disk);
  for (const type of ['monolithicSparse', 'streamOptimized', 'monolithicFlat', 'twoGbMaxExtentSparse']) {
    await qemuImg('convert', '-O', 'vmdk', '-o', `subformat=${type}`, '-f', 'raw', at('disk.raw'), at(`${type}.vmdk`));
  }
});
afterAll(() => rm(base, { recursive: true }));

describe('inspectImage and VMDK', () => {
  it.each(['monolithicSparse', 'streamOptimized'])('accepts %s', async (type) => {
    const image = { format: 'vmdk', virtualSizeBytes: 42 * MiB };
    expect([await inspect(`${type}.vmdk`), await inspect(`${type}.vmdk`, 'vmdk')]).toEqual([image, image]);
  });

  it('accepts a stream with its directory at the end, as VMware writes it, and QEMU reads it', async () => {
    const stream = await readFile(at('streamOptimized.vmdk'));
    const end = Buffer.alloc(3 * 512);
    end.writeUInt32LE(1, 0);
    end.writeUInt32LE(3, 12);
    stream.copy(end, 512, 0, 512);
    stream.writeBigUInt64LE(2n ** 64n - 1n, 56);
    await writeFile(at('stream.vmdk'), [stream, Buffer.alloc(-stream.length & 511), end]);
    expect(await inspect('stream.vmdk')).toEqual({ format: 'vmdk', virtualSizeBytes: 42 * MiB });
    await qemuImg('compare', '-f', 'vmdk', '-F', 'raw', at('stream.vmdk'), at('disk.raw'));
  });

  it('refuses a file that is not of the format that was named', async () => {
    await expect(inspect('monolithicSparse.vmdk', 'raw')).rejects.toMatchObject({ code: 'image.format_mismatch' });
    await expect(inspect('disk.raw', 'vmdk')).rejects.toMatchObject({ code: 'image.format_mismatch' });
  });

  it.each(['monolithicFlat.vmdk', 'twoGbMaxExtentSparse.vmdk', 'twoGbMaxExtentSparse-s001.vmdk'])(
    'refuses %s, which is not all of a disk',
    async (name) => {
      await expect(inspect(name)).rejects.toMatchObject({ code: 'image.has_backing_file' });
    },
  );

  it('refuses an overlay', async () => {
    await qemuImg('create', '-f', 'vmdk', '-b', at('monolithicSparse.vmdk'), '-F', 'vmdk', at('overlay.vmdk'));
    await expect(inspect('overlay.vmdk')).rejects.toMatchObject({ code: 'image.has_backing_file' });
  });

  it('refuses a header that sends QEMU to a text, which has it read any file of the machine', async () => {
    await writeFile(at('secret'), 'secret'.repeat(1000));
    const text = [
      '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"',
      `RW 11 FLAT "${at('secret')}" 0\n\0`,
    ].join('\n');
    const name = await patched('monolithicSparse.vmdk', [12, u64(0n)], [512, text]);
    // The attack works: this is what must not reach QEMU.
    await qemuImg('convert', '-f', 'vmdk', '-O', 'raw', at(name), at('stolen'));
    expect(await readFile(at('stolen'), 'latin1')).toMatch(/^secretsecret/);
    await expect(inspect(name)).rejects.toMatchObject({ code: 'image.has_backing_file' });
  });

  it('refuses a bomb', async () => {
    await qemuImg('create', '-f', 'vmdk', at('bomb.vmdk'), '4T');
    await expect(inspect('bomb.vmdk')).rejects.toMatchObject({ code: 'image.too_large' });
    await expect(inspect('monolithicSparse.vmdk', 'vmdk', 42 * MiB - 1)).rejects.toMatchObject({
      code: 'image.too_large',
    });
  });

  it('refuses pointers that lead out of the file', async () => {
    const file = await readFile(at('monolithicSparse.vmdk'));
    const directory = Number(file.readBigUInt64LE(56)) * 512;
    const table = file.readUInt32LE(directory) * 512;
    const outside = Buffer.from([0xff, 0xff, 0xff, 0x7f]);
    for (const pointer of [directory, table]) {
      const name = await patched('monolithicSparse.vmdk', [pointer, outside]);
      await expect(inspect(name)).rejects.toMatchObject({ code: 'image.not_an_image' });
    }
  });

  it.each(['monolithicSparse', 'streamOptimized'])('refuses a truncated %s', async (type) => {
    const bytes = await readFile(at(`${type}.vmdk`));
    for (const length of [600, bytes.length / 2, bytes.length - 2 ** 17]) {
      await writeFile(at('short.vmdk'), bytes.subarray(0, length));
      await expect(inspect('short.vmdk')).rejects.toMatchObject({ code: 'image.not_an_image' });
    }
  });

  it('reads a crafted directory that leads to one table again and again only once', async () => {
    await qemuImg('create', '-f', 'vmdk', at('wide.vmdk'), '1T');
    const bytes = await readFile(at('wide.vmdk'));
    const directory = Number(bytes.readBigUInt64LE(56)) * 512;
    const first = bytes.readUInt32LE(directory);
    for (let entry = 0; entry < 2 ** 15; entry++) bytes.writeUInt32LE(first, directory + entry * 4);
    await writeFile(at('wide.vmdk'), bytes);
    const file = await open(at('wide.vmdk'));
    const reads = vi.spyOn(file, 'read');
    expect(await checkVmdk(file, bytes.length, 2 ** 40)).toBe(2 ** 40);
    expect(reads.mock.calls.length).toBeLessThan(10);
    await file.close();
  });
});
