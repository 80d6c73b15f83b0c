import { mkdtemp } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import type { Stage } from '../stage/stage.js';
import { Person } from '../test/person.js';
import { howToReach } from './demo.js';

it('m2 demo --remove says what it took down, or that nothing was there', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'm2-stage-'));
  const person = new Person();
  expect(await person.m2(['demo', '--remove', dir])).toMatchObject({
    code: 0,
    err: `${dir} is taken down and removed.\n`,
  });
  expect(existsSync(dir)).toBe(false);
  const { code, err } = await person.m2(['demo', '--remove', dir]);
  expect([code, err]).toEqual([0, `There is no ${dir}: nothing was taken down.\n`]);
});

it('m2 demo --keep names the project wherever a command needs one', () => {
  const lab = { nodes: [] as Stage['lab']['nodes'] } as Stage['lab'];
  const running = { url: 'http://127.0.0.1:7400', adminTokenFile: '/s/admin-token' } as Stage['running'];
  const said = howToReach({ dir: '/d', state: '/s', lab, running, project: 'demo' } as Stage);
  expect(said).toContain('./m2 --state /s --project demo image list');
});

it.each(['/nope', 'nope'])('m2 up refuses to import from %s, which is not there', async (from) => {
  const { code, err } = await new Person().m2(['up', '--import-from', from]);
  expect(code).toBe(exitCodes.usage);
  expect(err).toMatch(/--import-from: \/\S*nope is not a directory/);
});
