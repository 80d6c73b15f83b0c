import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const MiB = 2 ** 20;
export const imageBytes = 24 * MiB;

/** One image, in the formats that a golden volume is made from. */
export interface TestImages {
  directory: string;
  bytes: Buffer;
  raw: string;
  qcow2: string;
  vmdk: string;
  /** As virtualization products export it: compressed, in an OVA for example. */
  streamVmdk: string;
}

/** Data in the first quarter and the last quarter, and a hole between. */
export async function makeImages(): Promise<TestImages> {
  const directory = await mkdtemp(join(tmpdir(), 'm2-images-'));
  const raw = join(directory, 'image.raw');
  const file = await open(raw, 'w');
  try {
    await file.write(randomBytes(imageBytes / 4), 0, undefined, 0);
    await file.write(randomBytes(imageBytes / 4), 0, undefined, (imageBytes / 4) * 3);
  } finally {
    await file.close();
  }
  const converted = async (name: string, ...options: string[]) => {
    await run('qemu-img', ['convert', '-f', 'raw', ...options, raw, join(directory, name)]);
    return join(directory, name);
  };
  return {
    directory,
    bytes: await readFile(raw),
    raw,
    qcow2: await converted('image.qcow2', '-c', '-O', 'qcow2'),
    vmdk: await converted('image.vmdk', '-O', 'vmdk'),
    streamVmdk: await converted('stream.vmdk', '-O', 'vmdk', '-o', 'subformat=streamOptimized'),
  };
}
