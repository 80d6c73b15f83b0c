import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { asStorageError } from '../storage.port.js';

/** Paths mounted directly in `directory`. Reads a table (proc(5), mountinfo), as asking a dead FUSE mount itself may hang. */
export async function mountsIn(directory: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const points = table.split('\n').map((line) => unescapeOctal(line.split(' ')[4] ?? ''));
  return points.filter((point) => dirname(point) === directory);
}

/** Takes FUSE mounts away at once, open files on them or not. Works for root and, being set-uid, for the mount's owner. */
export async function unmountLazily(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    try {
      await promisify(execFile)('fusermount3', ['-u', '-z', '--', path], { timeout: 10_000 });
    } catch (error) {
      // A dying daemon unmounts by itself and may be faster.
      if ((await mountsIn(dirname(path))).includes(path)) throw asStorageError(error, `unmount ${path}`);
    }
  }
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCodePoint(Number.parseInt(digits, 8)));
}
