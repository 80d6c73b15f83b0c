import type { Stage } from '@m2/cli';
import { cp, lstat, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where `m2 test` writes its reports. */
export const reports = fileURLToPath(new URL('../../node_modules/.cache/m2-tests/', import.meta.url));

/** The stages that play now in this file of tests: when one of its tests fails, their logs are kept. */
export const stages = new Set<Stage>();

/** Copies the logs of an installation and of its rack: they go with the stage. Returns where they are. */
export async function keepLogs(stage: Stage, to = join(reports, basename(stage.dir))): Promise<string> {
  await mkdir(to, { recursive: true });
  const ours = cp(join(stage.state, 'logs'), join(to, 'logs'), { recursive: true, force: true });
  // The storage and the BMCs write on meanwhile, and what a node has as disks is large: directories and logs only.
  const racks = cp(join(stage.dir, 'lab'), join(to, 'lab'), {
    recursive: true,
    force: true,
    filter: isLogOrDirectory,
  });
  await Promise.allSettled([ours, racks]);
  return to;
}

const isLogOrDirectory = async (path: string): Promise<boolean> =>
  path.endsWith('.log') || (await lstat(path)).isDirectory();
