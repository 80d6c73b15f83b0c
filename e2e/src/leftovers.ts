import type { Stage } from '@m2/cli';
import { access, readdir, readFile } from 'node:fs/promises';
import { expect } from 'vitest';

/** Closes a stage, if it was started, and fails when anything of it is still on the machine. */
export async function closeWithoutLeftovers(stage: Stage | undefined): Promise<void> {
  if (!stage) return;
  await stage.close();
  expect(await leftoversOf(stage)).toEqual([]);
}

/** What a closed stage has left behind, in words. */
async function leftoversOf({ dir, lab }: Stage): Promise<string[]> {
  const { namespace, serverInterface } = lab.network ?? {};
  const paths = [
    dir,
    ...(namespace ? [`/run/netns/${namespace}`] : []),
    ...(serverInterface ? [`/sys/class/net/${serverInterface}`] : []),
  ];
  const there = await Promise.all(paths.map(async (path) => ((await exists(path)) ? [path] : [])));
  const mounts = (await mountsWith(dir)).map((mount) => `mount ${mount}`);
  const processes = (await processesWith(dir)).map((process) => `process ${process}`);
  return [...there.flat(), ...mounts, ...processes];
}

/** Mount points whose line in the table (proc(5), mountinfo) holds `text`; the table is right also when a mount hangs. */
export async function mountsWith(text: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.filter((line) => line.includes(text)).map((line) => line.split(' ')[4] ?? line);
}

/** Processes with `text` in their arguments or, where we may look, in their environment. */
export async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [line, environment] = await Promise.all(
        // A process may end while we look, and another user's environment is not ours to read.
        ['cmdline', 'environ'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')),
      );
      return `${line}${environment}`.includes(text) ? [`${pid} ${line?.replaceAll('\0', ' ')}`] : [];
    }),
  );
  return found.flat();
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
