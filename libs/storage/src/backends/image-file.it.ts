import { execFile } from 'node:child_process';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeGolden } from './image-file.js';

const run = promisify(execFile);
const MiB = 2 ** 20;
const secret = Buffer.alloc(MiB, 'another file of this machine ');

let base: string;
const at = (name: string) => join(base, name);
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-golden-'));
  await writeFile(at('secret'), secret);
});
afterEach(() => rm(base, { recursive: true }));

const convert = async (name: string, format: 'qcow2' | 'vmdk') => {
  await writeGolden({ path: at(name), format }, at('golden'), {});
  return readFile(at('golden'));
};

describe('an image that names another file', () => {
  it.each(['qcow2', 'vmdk'] as const)('gives nothing of it away as the backing file of a %s', async (format) => {
    await run('qemu-img', ['convert', '-O', format, '-f', 'raw', at('secret'), at('base')]);
    await run('qemu-img', ['create', '-q', '-f', format, '-b', at('base'), '-F', format, at('image')]);
    expect((await convert('image', format)).equals(Buffer.alloc(MiB))).toBe(true);
  });

  it('is refused when it is a VMDK that has no data of its own', async () => {
    const descriptor = [
      '# Disk DescriptorFile',
      'version=1',
      'CID=12345678',
      'parentCID=ffffffff',
      'createType="monolithicFlat"',
      `RW ${MiB / 512} FLAT "${at('secret')}" 0`,
      'ddb.adapterType = "ide"',
      '',
    ].join('\n');
    await writeFile(at('text'), descriptor);
    await expect(convert('text', 'vmdk')).rejects.toMatchObject({ code: 'storage.bad_source' });
    // The same in a sparse header without capacity: QEMU opens what the header names.
    const embedded = Buffer.alloc(64 * 1024);
    embedded.write('KDMV', 0);
    embedded.writeUInt32LE(1, 4);
    embedded.writeUInt32LE(3, 8);
    embedded.writeBigUInt64LE(1n, 28); // sectors to the descriptor, and its length
    embedded.writeBigUInt64LE(20n, 36);
    embedded.write(descriptor, 512);
    await writeFile(at('embedded'), embedded);
    await expect(convert('embedded', 'vmdk')).rejects.toMatchObject({ code: 'storage.bad_source' });
  });

  it('is read for what its header says of it, and no more', async () => {
    await run('qemu-img', ['convert', '-O', 'vmdk', '-f', 'raw', at('secret'), at('image')]);
    const file = await open(at('image'), 'r+');
    await file.write(Buffer.alloc(8), 0, 8, 12); // no capacity, and a descriptor that names the file itself
    await file.close();
    await expect(convert('image', 'vmdk')).rejects.toMatchObject({ code: 'storage.bad_source' });
  });
});
