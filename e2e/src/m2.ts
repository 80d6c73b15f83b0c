import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Stage } from '@m2/cli';
import type { Member } from './story.js';

/** The built command line, as users run it. */
const program = fileURLToPath(new URL('../../apps/cli/dist/main.js', import.meta.url));

/**
 * Runs `m2 … --json` as a child, as a person with nothing but the address and a token would, and returns what it printed.
 * Rejects when it exits with anything but 0.
 */
export async function m2(stage: Stage, { project, token }: Member, args: string[]): Promise<unknown> {
  const env = { HOME: stage.dir, M2_URL: stage.running.url, M2_TOKEN: token, M2_PROJECT: project };
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args, '--json'], { env });
  return JSON.parse(stdout);
}
