import { execFile } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';

/**
 * The entry script `m2`, in a checkout of stand-ins: its npm "installs" and writes that down, its nx "builds", its node answers as
 * the version that it is made with.
 */
let dir: string;

const write = (path: string, text: string, mode = 0o644) => {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), text);
  chmodSync(join(dir, path), mode);
};
const nodeOf = (version: string) => `#!/bin/sh
case $1 in
  --version) echo ${version} ;;
  node_modules/nx/*) echo build >>calls; [ ! -e broken ] || { echo "src/x.ts: error TS1" ; exit 1; }
    mkdir -p apps/cli/dist && : >apps/cli/dist/main.js ;;
  *) echo "${version} ran: $*" ;;
esac
`;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'm2e-'));
  cpSync(fileURLToPath(new URL('../m2', import.meta.url)), join(dir, 'm2'));
  for (const file of ['package.json', 'package-lock.json', 'tools/node/package-lock.json', 'tsconfig.base.json'])
    write(file, '{}');
  for (const folder of ['libs/a', 'services/a', 'apps/cli', 'lab', 'e2e', 'faults', 'bench'])
    write(`${folder}/src/a.ts`, '');
  write('newer-node', nodeOf('v24.1.0'), 0o755);
  write(
    'bin/npm',
    `#!/bin/sh
echo "npm chatter"
echo "$1 $(basename "$3")" >>${dir}/calls
mkdir -p "$3/node_modules"
for architecture in x64 arm64; do
  mkdir -p "$3/node_modules/node-linux-$architecture/bin"
  cp ${dir}/newer-node "$3/node_modules/node-linux-$architecture/bin/node"
done
`,
    0o755,
  );
  for (const tool of [
    'uname',
    'dirname',
    'basename',
    'readlink',
    'cat',
    'cksum',
    'flock',
    'find',
    'touch',
    'mv',
    'mkdir',
    'cp',
    'sh',
  ])
    symlinkSync(['/usr/bin', '/bin'].map((bin) => join(bin, tool)).find(existsSync) as string, join(dir, 'bin', tool));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const m2 = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    execFile(join(dir, 'm2'), args, { env: { PATH: join(dir, 'bin') } }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
const calls = () => (existsSync(join(dir, 'calls')) ? readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n') : []);
const cliOf = (args: string) => `v24.1.0 ran: ${join(dir, 'apps/cli/dist/main.js')} ${args}\n`;

it('installs, builds and runs, and does nothing twice', async () => {
  write('bin/node', nodeOf('v24.1.0'), 0o755);
  const first = await m2('node', 'list', 'a b');
  expect(first).toMatchObject({ code: 0, stdout: cliOf('node list a b') });
  expect(first.stderr).toContain('installing the npm packages');
  expect(first.stderr).toContain('building');
  expect(await m2('--json')).toEqual({ code: 0, stdout: cliOf('--json'), stderr: '' });
  expect(calls()).toEqual([`ci ${dir.split('/').at(-1)}`, 'build']);
});

it('fetches a newer Node.js where the machine’s is too old, and says so', async () => {
  write('bin/node', nodeOf('v22.14.9'), 0o755);
  const { stdout, stderr } = await m2('status');
  expect(stdout).toBe(cliOf('status'));
  expect(stderr).toMatch(/Node\.js is v22\.14\.9, M2 needs 22\.15 or newer/);
  await m2('status');
  expect(calls().filter((call) => call === 'ci node')).toHaveLength(1);
});

it('installs again when the lock file changed, and builds again when a source did', async () => {
  write('bin/node', nodeOf('v22.15.0'), 0o755);
  await m2();
  write('package-lock.json', '{"changed":true}');
  await m2();
  write('services/a/src/b.ts', '');
  await m2();
  rmSync(join(dir, 'lab/src/a.ts'));
  await m2();
  const root = dir.split('/').at(-1);
  expect(calls()).toEqual([`ci ${root}`, 'build', `ci ${root}`, 'build', 'build']);
});

it('does not run what was not built, and shows why', async () => {
  write('bin/node', nodeOf('v24.1.0'), 0o755);
  write('broken', '');
  const { code, stdout, stderr } = await m2('up');
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toContain('error TS1');
});

it('says what is missing', async () => {
  rmSync(join(dir, 'bin/npm'));
  expect((await m2()).stderr).toMatch(/Node\.js 22\.15 or newer is missing, and so is npm/);
  write('bin/node', nodeOf('v24.1.0'), 0o755);
  expect((await m2()).stderr).toMatch(/npm is missing: install it/);
});

it('says that it needs Linux', async () => {
  rmSync(join(dir, 'bin/uname'));
  write('bin/uname', '#!/bin/sh\necho Darwin\n', 0o755);
  expect(await m2()).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/runs on Linux .* this is Darwin/) as string,
  });
});
