import { spawn } from 'node:child_process';
import { accessSync, chownSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serviceNames } from '@m2/contracts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { down } from './down.js';
import { findFreeBasePort } from './ports.js';
import { processesOf } from './processes.js';
import { weAreRoot } from './state.js';
import { build } from './testing/installation.js';

const entry = fileURLToPath(new URL('../dist/index.js', import.meta.url));
const standIn = fileURLToPath(new URL('./testing/stand-in.mjs', import.meta.url));
/** Root's tests run it as somebody who has no rights at all; everybody else's run it as themselves. */
const user = weAreRoot() ? { uid: 65_534, gid: 65_534 } : {};

let home: string;
beforeAll(() => {
  build();
  home = mkdtempSync(join(tmpdir(), 'm2u-'));
  if (user.uid) chownSync(home, user.uid, user.gid);
});
afterAll(async () => {
  await down({ state: join(home, 'state') });
  rmSync(home, { recursive: true, force: true });
});

/** A checkout below a closed home directory cannot be run by others, whatever M2 does. */
function isOpenToAll(path: string): boolean {
  if (!weAreRoot()) return true;
  accessSync(path, constants.R_OK);
  for (let dir = dirname(path); dir !== dirname(dir); dir = dirname(dir))
    if (!(statSync(dir).mode & 0o001)) return false;
  return true;
}

it.skipIf(![entry, process.execPath].every(isOpenToAll))('works for a user without privileges', async () => {
  const env = Object.fromEntries(serviceNames.map((name) => [name, { STAND_IN_JOURNAL: join(home, 'journal') }]));
  const options = {
    state: join(home, 'state'),
    port: await findFreeBasePort(),
    mains: Object.fromEntries(serviceNames.map((name) => [name, standIn])),
    env,
  };
  // In the foreground: this process is the supervisor, and SIGTERM stops everything.
  const script = `
    const { up } = await import(${JSON.stringify(entry)});
    const running = await up(${JSON.stringify(options)});
    process.stdout.write('ready');
    await running.ended;`;
  const supervisor = spawn(process.execPath, ['--input-type=module', '-e', script], {
    ...user,
    cwd: '/',
    env: { PATH: process.env['PATH'] },
  });
  let errors = '';
  supervisor.stderr.on('data', (part) => (errors += part));
  const exited = once(supervisor, 'exit');
  await Promise.race([once(supervisor.stdout, 'data'), exited]);
  expect(errors).toBe('');
  const found = processesOf(options.state);
  expect(found.map(({ program }) => program)).toContain('postgres');
  const owners = new Set(found.map(({ pid }) => statSync(`/proc/${pid}`).uid));
  expect([...owners]).toEqual([user.uid ?? process.getuid?.()]);
  supervisor.kill('SIGTERM');
  expect(await exited).toEqual([0, null]);
  expect(processesOf(options.state)).toEqual([]);
});
