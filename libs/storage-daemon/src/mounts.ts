import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { StorageDaemonError } from './errors.js';

/** The mount points and the ID of the topmost mount there. Reads a table (proc(5), mountinfo), because a FUSE mount itself may hang. */
export async function mountTable(): Promise<Map<string, number>> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const lines = table.split('\n').map((line) => line.split(' '));
  return new Map(lines.map(([id, , , , point]) => [unescapeOctal(point ?? ''), Number(id)]));
}

/** Paths mounted directly in `directory`. */
export async function mountsIn(directory: string): Promise<string[]> {
  return [...(await mountTable()).keys()].filter((point) => dirname(point) === directory);
}

/** Detaches FUSE mounts at once, with or without open files. Works for root and, because fusermount is set-uid, for the mount's owner. */
export async function unmountLazily(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    try {
      await promisify(execFile)('fusermount3', ['-u', '-z', '--', path], { timeout: 10_000 });
    } catch (error) {
      // A dying daemon unmounts by itself and may be faster.
      if ((await mountsIn(dirname(path))).includes(path)) {
        throw new StorageDaemonError(
          'daemon.unavailable',
          `Could not unmount ${path}. Unmount it by hand, then retry.`,
          {
            cause: error,
          },
        );
      }
    }
  }
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCodePoint(Number.parseInt(digits, 8)));
}
