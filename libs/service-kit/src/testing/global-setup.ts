import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

const cleaner = fileURLToPath(new URL('./cleaner.mjs', import.meta.url));

/**
 * Makes the directory of a run, and starts the process that cleans up after it. Nothing else is started here: the first test file that
 * needs a shared server starts it, so that a single file starts only what it needs.
 */
export default function setup(project: TestProject): () => Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'm2-test-run-'));
  // PostgreSQL may run as another user, and its directory is below this one.
  chmodSync(directory, 0o711);
  // In a session of its own: Ctrl-C goes to vitest, and the cleaner has to outlive it.
  const janitor = spawn(process.execPath, [cleaner, directory], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  });
  project.provide('testRun', directory);
  return async () => {
    const done = once(janitor, 'exit');
    janitor.stdin.end();
    await done;
  };
}
