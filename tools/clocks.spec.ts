import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Whether the linter lets a statement pass. */
function passes(statement: string): boolean {
  const directory = mkdtempSync(join(tmpdir(), 'm2l-'));
  try {
    writeFileSync(join(directory, 'one.ts'), `${statement}\n`);
    const program = join(root, 'node_modules/oxlint/bin/oxlint');
    const { status, stdout } = spawnSync(
      process.execPath,
      [program, '--deny-warnings', '-c', join(root, '.oxlintrc.json'), directory],
      { encoding: 'utf8' },
    );
    if (!/on 1 file /.test(stdout)) throw new Error(`oxlint looked at nothing: ${stdout}`);
    return status === 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

it.each(['Date.now()', 'new Date().getTime()', '+new Date()', 'Date.now'])(
  'the linter refuses %s: a wait must not end, nor go on for ever, because somebody sets the clock',
  (reading) => {
    expect(passes(`export const until = ${reading};`)).toBe(false);
  },
);

it('lets the monotonic clock pass, and a time for people', () => {
  expect(passes('export const times = [performance.now(), new Date().toISOString()];')).toBe(true);
});

it('who reads the wall clock nevertheless says why', () => {
  const sources = globSync('{libs,services,apps,lab,e2e,faults,bench}/**/src/**/*.{ts,mjs}', {
    cwd: root,
    exclude: (path) => path === 'node_modules' || path === 'dist',
  });
  const exceptions = sources.flatMap((path) =>
    [...readFileSync(join(root, path), 'utf8').matchAll(/oxlint-disable\S* .*no-restricted-properties.*/g)].map(
      ([comment]) => [path, comment],
    ),
  );
  expect(exceptions.length).toBeGreaterThan(0);
  expect(exceptions.filter(([, comment]) => !/^oxlint-disable-next-line \S+ -- \S/.test(comment!))).toEqual([]);
});
