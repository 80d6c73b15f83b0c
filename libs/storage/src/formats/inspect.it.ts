import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspectImage } from './inspect.js';

const qemuImg = (...args: string[]) => promisify(execFile)('qemu-img', args);
const MiB = 2 ** 20;

let base: string;
const at = (name: string) => join(base, name);
const inspect = (name: string, declared?: 'raw' | 'qcow2' | 'vmdk') =>
  inspectImage(at(name), { declared, maxVirtualBytes: 2 ** 40 });

async function patch(name: string, position: number, bytes: Buffer): Promise<void> {
  const file = await open(at(name), 'r+');
  await file.write(bytes, 0, bytes.length, position);
  await file.close();
}

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'm2-inspect-'));
  const disk = Buffer.concat([randomBytes(MiB), Buffer.alloc(MiB)]);
  disk.write('\x55\xaa', 510, 'latin1');
  await writeFile(at('disk.raw'), disk);
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', at('disk.raw'), at('disk.qcow2'));
});
afterAll(() => rm(base, { recursive: true }));

describe('inspectImage', () => {
  it('accepts a raw disk and a qcow2 image, named or not', async () => {
    const [raw, qcow2] = [
      { format: 'raw', virtualSizeBytes: 2 * MiB },
      { format: 'qcow2', virtualSizeBytes: 2 * MiB },
    ];
    expect([await inspect('disk.raw'), await inspect('disk.raw', 'raw')]).toEqual([raw, raw]);
    expect([await inspect('disk.qcow2'), await inspect('disk.qcow2', 'qcow2')]).toEqual([qcow2, qcow2]);
  });

  it.each([
    'compat=0.10',
    'compat=1.1',
    'extended_l2=on',
    'compression_type=zstd',
    'cluster_size=2M',
    'cluster_size=512',
  ])('accepts qcow2 made with %s', async (option) => {
    await qemuImg('create', '-f', 'qcow2', '-o', option, at('variant.qcow2'), '1G');
    expect(await inspect('variant.qcow2')).toEqual({ format: 'qcow2', virtualSizeBytes: 2 ** 30 });
  });

  it('refuses a file that is not of the format that was named', async () => {
    await expect(inspect('disk.raw', 'qcow2')).rejects.toMatchObject({ code: 'image.format_mismatch' });
    await expect(inspect('disk.qcow2', 'raw')).rejects.toMatchObject({ code: 'image.format_mismatch' });
  });

  it.each(['vhdx', 'vdi', 'vpc', 'qed', 'qcow'])('refuses what qemu-img makes as %s', async (format) => {
    await qemuImg('convert', '-f', 'raw', '-O', format, at('disk.raw'), at(`disk.${format}`));
    await expect(inspect(`disk.${format}`)).rejects.toMatchObject({ code: 'image.unsupported_format' });
  });

  it('refuses what is no disk', async () => {
    for (const bytes of ['', 'just text', '<!doctype html><title>Sign in</title>', '\0'.repeat(MiB)]) {
      await writeFile(at('no-disk'), bytes);
      await expect(inspect('no-disk')).rejects.toMatchObject({ code: 'image.not_an_image' });
    }
    await writeFile(at('no-disk'), '<!doctype html><title>Sign in</title>');
    await expect(inspect('no-disk')).rejects.toThrow('web page');
  });

  it('refuses an overlay, an external data file and encryption', async () => {
    await qemuImg('create', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', at('overlay.qcow2'));
    await expect(inspect('overlay.qcow2')).rejects.toMatchObject({ code: 'image.has_backing_file' });
    await qemuImg('create', '-f', 'qcow2', '-o', `data_file=${at('data')}`, at('external.qcow2'), '1M');
    await expect(inspect('external.qcow2')).rejects.toMatchObject({ code: 'image.has_backing_file' });
    const secret = ['--object', 'secret,id=s,data=secret'];
    await qemuImg(
      'create',
      ...secret,
      '-f',
      'qcow2',
      '-o',
      'encrypt.format=aes,encrypt.key-secret=s',
      at('aes.qcow2'),
      '1M',
    );
    await expect(inspect('aes.qcow2')).rejects.toMatchObject({ code: 'image.encrypted' });
  });

  it('refuses a bomb before anything reads it', async () => {
    await qemuImg('create', '-f', 'qcow2', at('bomb.qcow2'), '100T');
    await expect(inspect('bomb.qcow2')).rejects.toMatchObject({ code: 'image.too_large' });
    await writeFile(at('sparse.raw'), await readFile(at('disk.raw')));
    await truncate(at('sparse.raw'), 2 ** 40 + 512);
    await expect(inspect('sparse.raw')).rejects.toMatchObject({ code: 'image.too_large' });
  });

  it('refuses what only QEMU sees: a header extension that it cannot read', async () => {
    await writeFile(at('extension.qcow2'), await readFile(at('disk.qcow2')));
    const extension = Buffer.alloc(8);
    extension.writeUInt32BE(0xe2792aca, 0);
    extension.writeUInt32BE(0xffff, 4); // longer than the cluster has space for
    await patch('extension.qcow2', 112, extension);
    await expect(inspect('extension.qcow2')).rejects.toMatchObject({ code: 'image.not_an_image' });
  });

  it('refuses a truncated image', async () => {
    await writeFile(at('short.qcow2'), (await readFile(at('disk.qcow2'))).subarray(0, 1000));
    await expect(inspect('short.qcow2')).rejects.toMatchObject({ code: 'image.not_an_image' });
  });
});
