import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ensurePackages, missingPackages } from './packages.js';

let dir: string;
const calls = () => readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n');
const packages = [
  { name: 'here', job: 'being here', file: process.execPath },
  { name: 'gone', job: 'being gone', file: '/nowhere/gone' },
  { name: 'lost', job: 'being lost', file: '/nowhere/lost' },
];
const report = vi.fn<(line: string) => void>();

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'm2a-'));
  // An apt-get that writes down what it was asked, and knows packages only after an update.
  writeFileSync(
    join(dir, 'apt-get'),
    `#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >>${dir}/calls
[ "$3" = update ] && : >${dir}/updated
[ "$3" = update ] || [ -e ${dir}/updated ] || { echo "E: Unable to locate package" >&2; exit 100; }
[ ! -e ${dir}/broken ] || { echo "E: broken" >&2; exit 100; }
`,
  );
  chmodSync(join(dir, 'apt-get'), 0o755);
  vi.stubEnv('PATH', `${dir}:/usr/bin:/bin`);
  vi.spyOn(process, 'getuid').mockReturnValue(0);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  rmSync(dir, { recursive: true, force: true });
});

it('knows a package by its file', () => {
  expect(missingPackages(packages).map(({ name }) => name)).toEqual(['gone', 'lost']);
});

it('installs only what is missing, and updates the lists only when it has to', async () => {
  const install = 'noninteractive -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends gone lost';
  await ensurePackages(packages, report);
  expect(calls()).toEqual([install, 'noninteractive -o DPkg::Lock::Timeout=300 update', install]);
  await ensurePackages(packages, report);
  expect(calls()).toHaveLength(4);
  expect(report).toHaveBeenCalledWith('installing Debian packages: gone lost');
});

it('asks for nothing when everything is there', async () => {
  await ensurePackages(packages.slice(0, 1), report);
  expect(() => calls()).toThrow(/ENOENT/);
});

it('tells who is not root which command to run', async () => {
  vi.mocked(process.getuid as () => number).mockReturnValue(1000);
  await expect(ensurePackages(packages, report)).rejects.toMatchObject({
    code: 'supervisor.packages_missing',
    message: expect.stringContaining('gone (being gone), lost (being lost)') as string,
    remedy: 'As root: apt-get update && apt-get install --yes --no-install-recommends gone lost',
  });
});

it('says what apt-get said when it fails', async () => {
  writeFileSync(join(dir, 'broken'), '');
  await expect(ensurePackages(packages, report)).rejects.toThrow(/E: broken/);
  rmSync(join(dir, 'apt-get'));
  vi.stubEnv('PATH', dir);
  await expect(ensurePackages(packages, report)).rejects.toThrow(/no apt-get/);
});
