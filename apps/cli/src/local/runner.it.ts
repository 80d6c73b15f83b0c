import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { runTier } from './runner.js';
import { workspaceRoot } from './workspace.js';

/** A workspace of its own, below ours so that its tests find vitest. */
async function project(tests: Record<string, string>): Promise<string> {
  const cache = join(workspaceRoot(), 'node_modules/.cache');
  await mkdir(cache, { recursive: true });
  const root = await mkdtemp(join(cache, 'm2-runner-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const config = `export default { test: { projects: [{ test: { name: 'unit', include: ['*.spec.mjs'], globals: true } }] } };`;
  await writeFile(join(root, 'vitest.config.mjs'), config);
  for (const [name, text] of Object.entries(tests)) await writeFile(join(root, `${name}.spec.mjs`), text);
  return root;
}

it('counts what vitest ran, broken files included', async () => {
  const root = await project({
    good: `it('a', () => {}); it('b', () => {}); it.skip('c', () => {}); it.todo('d');`,
    bad: `it('e', () => { throw new Error('as wanted'); });`,
    broken: `import './there-is-no-such-file.mjs';`,
  });
  expect(await runTier(workspaceRoot(), 'unit', root, 'ignore')).toEqual({
    code: 1,
    totals: { passed: 2, failed: 2, skipped: 2 },
  });
});

it('is not content when there is no test', async () => {
  const { code, totals } = await runTier(workspaceRoot(), 'unit', await project({}), 'ignore');
  expect(code).not.toBe(0);
  expect(totals.passed).toBe(0);
});
