import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { judge, runTests } from './runner.js';
import { workspaceRoot } from './workspace.js';

/** A workspace of its own, below ours so that its tests find vitest, and not below node_modules: vitest follows no imports there. */
async function project(tests: Record<string, string>): Promise<string> {
  const ignored = join(workspaceRoot(), 'apps/cli/dist');
  await mkdir(ignored, { recursive: true });
  const root = await mkdtemp(join(ignored, 'm2-runner-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const config = `export default { test: { projects: [{ test: { name: 'unit', include: ['*.spec.mjs'], globals: true } }] } };`;
  await writeFile(join(root, 'vitest.config.mjs'), config);
  for (const [name, text] of Object.entries(tests)) await writeFile(join(root, `${name}.spec.mjs`), text);
  return root;
}

const run = async (root: string, related?: string[]) => {
  const report = join(root, 'deep/report.json');
  const ran = await runTests(workspaceRoot(), ['unit'], {
    report,
    root,
    output: 'ignore',
    ...(related && { related }),
  });
  return { ...ran, ...judge([ran], ['unit']) };
};

it('counts what vitest ran, broken files included', async () => {
  const root = await project({
    good: `it('a', () => {}); it('b', () => {}); it.skip('c', () => {}); it.todo('d');`,
    bad: `it('e', () => { throw new Error('as wanted'); }); it('f', () => {}); it('g', () => {});`,
    broken: `import './there-is-no-such-file.mjs';`,
    hook: `beforeAll(() => { throw new Error('as wanted'); }); it('h', () => {});`,
  });
  const { code, report, totals, good } = await run(root);
  expect({ code, totals, good }).toEqual({ code: 1, totals: { passed: 4, failed: 3, skipped: 3 }, good: false });
  expect(report!.files.map(({ file, passed, failed }) => `${file} ${passed} ${failed}`).sort()).toEqual([
    'bad.spec.mjs 2 1',
    'broken.spec.mjs 0 1',
    'good.spec.mjs 2 0',
    'hook.spec.mjs 0 1',
  ]);
  for (const { startedAt, endedAt } of report!.files) expect(endedAt).toBeGreaterThan(startedAt);
});

it('is not content when there is no test', async () => {
  const { code, totals, good } = await run(await project({}));
  expect(code).not.toBe(0);
  expect(totals.passed).toBe(0);
  expect(good).toBe(false);
});

it('runs what depends on a file, and nothing else', async () => {
  const root = await project({ one: `import './one.mjs'; it('a', () => {});`, two: `it('b', () => {});` });
  await writeFile(join(root, 'one.mjs'), '');
  const { code, report } = await run(root, ['one.mjs']);
  expect([code, report!.files.map(({ file }) => file)]).toEqual([0, ['one.spec.mjs']]);
  expect(await run(root, ['three.mjs'])).toMatchObject({ code: 0, report: { files: [] } });
});
