import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { expect, it } from 'vitest';

/** Logs more than may wait in memory, and says `ready` when it has; ends when it is told to. */
const program = `
  import { makeLog } from ${JSON.stringify(new URL('log.ts', import.meta.url).href)};
  const log = makeLog('test', 'info');
  for (let n = 0; n < 200; n++) {
    log.info('x'.repeat(10_000));
    await new Promise(setImmediate);
  }
  process.once('message', () => process.exit(3));
  process.send('ready');
`;

it('a process whose log cannot be written goes on, and ends when it is asked to', async () => {
  // Each write to it fails for want of room (full(4)).
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', full, 'inherit', 'ipc'],
  });
  closeSync(full);
  try {
    expect(await once(child, 'message')).toContain('ready');
    child.send('end');
    expect(await once(child, 'exit')).toEqual([3, null]);
  } finally {
    child.kill('SIGKILL');
  }
});
