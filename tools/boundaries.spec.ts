import { execFile } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Who must not import what, and the rule that says so. */
const forbidden: [rule: string, from: string, imported: string][] = [
  ['services-do-not-know-each-other', 'services/image-svc/src/disks/disks.ts', '@m2/iscsi-svc'],
  ['services-do-not-know-each-other', 'services/boot-svc/src/boots.ts', '../../hil-adapter/src/index.js'],
  ['services-do-not-know-each-other', 'services/boot-svc/src/types.ts', 'type:../../hil-adapter/src/index.js'],
  ['services-share-two-libraries', 'services/image-svc/src/images/images.ts', '@m2/supervisor'],
  ['contracts-know-nothing-of-ours', 'libs/contracts/src/message.ts', '@m2/service-kit'],
  ['service-kit-knows-the-contracts-only', 'libs/service-kit/src/bus.ts', '@m2/supervisor'],
  ['the-saga-engine-knows-no-service', 'libs/saga/src/runner.ts', '@m2/api-gateway'],
  ['the-saga-engine-knows-no-service', 'libs/saga/src/store.ts', '@nestjs/common'],
  ['no-lab-in-the-product', 'services/hil-adapter/src/nodes/nodes.ts', '@m2/lab'],
  ['no-lab-in-the-product', 'apps/cli/src/commands/node.ts', '@m2/lab'],
  ['no-lab-in-the-product', 'apps/cli/src/commands/image-too.ts', '@m2/lab/testing'],
  ['the-command-line-speaks-rest', 'apps/cli/src/commands/disk.ts', '@m2/service-kit'],
  ['the-command-line-speaks-rest', 'apps/cli/src/commands/image.ts', '@m2/image-svc'],
  ['the-supervisor-starts-programs', 'apps/supervisor/src/child.ts', '@m2/api-gateway'],
  ['nobody-imports-a-driver', 'services/hil-adapter/src/power/power-handlers.ts', './ipmi/ipmi-driver.js'],
  ['nobody-imports-a-driver', 'services/image-svc/src/main.ts', '@m2/storage/drivers'],
  ['nobody-imports-a-driver', 'services/iscsi-svc/src/volumes/names.ts', '../drivers.js'],
  ['services-do-not-know-each-other', 'services/boot-svc/src/shortcut.ts', '@m2/iscsi-svc/drivers'],
  ['storage-is-for-image-svc', 'services/iscsi-svc/src/iscsi.module.ts', '@m2/storage/drivers'],
  ['storage-is-for-image-svc', 'apps/supervisor/src/storage.ts', '@m2/storage'],
  ['storage-knows-the-storage-only', 'libs/storage/src/backends/file/file-backend.ts', '@m2/image-svc'],
  ['storage-knows-the-storage-only', 'libs/storage/src/formats/sniff.ts', '@m2/supervisor'],
  ['small-libraries-know-nothing-of-ours', 'libs/rbd/src/client.ts', '@m2/contracts'],
  ['small-libraries-know-nothing-of-ours', 'libs/locks/src/locks.ts', '@m2/storage-daemon'],
  ['small-libraries-know-nothing-of-ours', 'libs/storage-daemon/src/daemon.ts', '../../rbd/src/index.js'],
  ['drivers-do-not-know-each-other', 'libs/storage/src/backends/ceph/ceph.ts', '../file/file-backend.js'],
  ['drivers-do-not-know-each-other', 'libs/storage/src/backends/zfs/zfs.ts', '../../drivers.js'],
  ['ports-and-drivers-know-no-framework', 'services/iscsi-svc/src/targets/target.port.ts', '@nestjs/common'],
  ['ports-and-drivers-know-no-framework', 'services/iscsi-svc/src/targets/tgt/pool.ts', '@m2/service-kit'],
  ['ports-and-drivers-know-no-framework', 'libs/storage/src/formats/inspect.ts', '@nestjs/common'],
  ['ports-and-drivers-know-no-framework', 'libs/storage/src/backends/probe.ts', 'typeorm'],
  ['nobody-imports-a-driver', 'libs/storage/src/storage.port.ts', './backends/file/file-backend.js'],
  ['nobody-imports-a-driver', 'libs/storage/src/index.ts', './drivers.js'],
  ['the-gateway-points-inwards', 'services/api-gateway/src/use-cases/disks/one.ts', '../../doors/rest/door.js'],
  ['the-gateway-points-inwards', 'services/api-gateway/src/access/one.ts', '../use-cases/use-cases.js'],
  ['the-gateway-points-inwards', 'services/api-gateway/src/projects/one.ts', '../access/access.js'],
  ['the-gateway-points-inwards', 'services/api-gateway/src/operations/one.ts', '../projects/projects.js'],
  ['the-gateway-points-inwards', 'services/api-gateway/src/sagas/one.ts', 'type:../operations/live.js'],
  ['a-door-binds-use-cases', 'services/api-gateway/src/doors/rest/one.ts', '../../projects/projects.js'],
  ['a-door-binds-use-cases', 'services/api-gateway/src/doors/rest/two.ts', '../../use-cases/disks/disks.js'],
  ['a-door-binds-use-cases', 'services/api-gateway/src/doors/rest/three.ts', '../legacy/door.js'],
  ['a-door-binds-use-cases', 'services/api-gateway/src/doors/rest/four.ts', '@m2/saga'],
  ['no-cycles', 'services/api-gateway/src/a.ts', './b.js'],
];

/** Who may import what. */
const allowed: [from: string, imported: string][] = [
  ['services/image-svc/src/image.module.ts', '@m2/storage/drivers'],
  ['services/image-svc/src/image.module.ts', '@m2/service-kit'],
  ['services/image-svc/src/image.module.ts', '@nestjs/common'],
  ['services/image-svc/src/disks/disk-handlers.ts', '@m2/storage'],
  ['services/image-svc/src/transfers/transfers.it.ts', '@m2/storage/drivers'],
  ['libs/storage/src/backends/file/file-backend.it.ts', './file-backend.js'],
  ['libs/storage/src/backends/file/file-backend.ts', './other.js'],
  ['libs/storage/src/backends/file/other.ts', '@m2/contracts'],
  ['libs/storage/src/backends/file/other.ts', '@m2/storage-daemon'],
  ['libs/storage/src/backends/rbd/rbd-backend.fixture.ts', '@m2/lab'],
  ['services/hil-adapter/src/power/ipmi/ipmi-driver.ts', '../power.port.js'],
  ['services/api-gateway/src/b.ts', '@m2/contracts'],
  ['services/api-gateway/src/doors/rest/rest.controller.ts', '../../use-cases/use-cases.js'],
  ['services/api-gateway/src/doors/rest/rest.guard.ts', '../../access/access.js'],
  ['services/api-gateway/src/use-cases/disks/create.ts', '../../sagas/disk-create.js'],
  ['services/api-gateway/src/use-cases/access/tokens.ts', '../../access/tokens.js'],
  ['libs/storage/src/drivers.ts', './backends/file/file-backend.js'],
  ['bench/src/bare.ts', '@m2/storage/drivers'],
  ['services/api-gateway/src/c.ts', '@m2/saga'],
  ['libs/saga/src/journal.ts', '@m2/service-kit'],
  ['apps/cli/src/stage/stage.ts', '@m2/lab'],
  ['apps/cli/src/local/demo.ts', '@m2/lab'],
  ['apps/cli/src/local/up.ts', '@m2/supervisor'],
  ['lab/src/lab.ts', '@m2/contracts'],
];

const packages: Record<string, string> = {
  contracts: 'libs',
  'service-kit': 'libs',
  storage: 'libs',
  rbd: 'libs',
  'storage-daemon': 'libs',
  saga: 'libs',
  'api-gateway': 'services',
  'image-svc': 'services',
  'iscsi-svc': 'services',
  'boot-svc': 'services',
  'hil-adapter': 'services',
  cli: 'apps',
  supervisor: 'apps',
  lab: '.',
};

let tree: string;
/** The violations that were found: rule and importing file. */
let found: string[];

const write = (path: string, text: string) => {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text, { flag: 'a' });
};

/** A package as it is when it was installed and built: a link in node_modules, and what it exports in dist. */
const makePackage = (name: string, dir: string) => {
  const exports = { '.': './dist/index.js', './drivers': './dist/drivers.js' };
  write(join(dir, name, 'package.json'), JSON.stringify({ name: `@m2/${name}`, exports }));
  for (const file of Object.values(exports)) write(join(dir, name, file), 'export {};');
  write(join(dir, name, 'src/index.ts'), 'export {};\n');
  symlinkSync(join(tree, dir, name), join(tree, 'node_modules/@m2', name));
};

beforeAll(async () => {
  tree = mkdtempSync(join(tmpdir(), 'm2b-'));
  mkdirSync(join(tree, 'node_modules/@m2'), { recursive: true });
  write('node_modules/@nestjs/common/package.json', JSON.stringify({ name: '@nestjs/common', main: 'index.js' }));
  write('node_modules/@nestjs/common/index.js', 'export {};');
  cpSync(join(root, 'tsconfig.base.json'), join(tree, 'tsconfig.base.json'));
  for (const [name, dir] of Object.entries(packages)) makePackage(name, dir);
  // That there is something to import: every relative target that no row below writes anyway.
  const gateway = [
    'doors/rest/door',
    'doors/legacy/door',
    'use-cases/use-cases',
    'use-cases/disks/disks',
    'access/access',
    'access/tokens',
    'projects/projects',
    'operations/live',
    'sagas/disk-create',
  ];
  for (const file of [
    ...gateway.map((file) => `services/api-gateway/src/${file}.ts`),
    'services/hil-adapter/src/power/power.port.ts',
    'services/iscsi-svc/src/drivers.ts',
    'libs/storage/src/backends/file/other.ts',
  ])
    write(file, '');
  for (const [from, imported] of [...allowed, ...forbidden.map(([, from, imported]) => [from, imported] as const)])
    write(
      from,
      imported.startsWith('type:') ? `import type {} from '${imported.slice(5)}';\n` : `import '${imported}';\n`,
    );
  write('services/api-gateway/src/b.ts', `import './a.js';\n`);
  found = await cruise();
}, 60_000);
afterAll(() => rmSync(tree, { recursive: true, force: true }));

function cruise(): Promise<string[]> {
  const program = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs');
  const config = join(root, '.dependency-cruiser.cjs');
  const args = [program, '--config', config, '--output-type', 'json', 'libs', 'services', 'apps', 'lab', 'bench'];
  return new Promise((resolve, reject) => {
    // It ends with the number of violations as its code; what it printed is the answer.
    execFile(process.execPath, args, { cwd: tree, maxBuffer: 32 * 1024 * 1024 }, (_, stdout, stderr) => {
      try {
        const { violations } = (JSON.parse(stdout) as { summary: { violations: Violation[] } }).summary;
        resolve(violations.map(({ rule, from }) => `${rule.name}: ${from}`));
      } catch (error) {
        reject(new Error(`dependency-cruiser failed: ${stderr}`, { cause: error }));
      }
    });
  });
}

interface Violation {
  rule: { name: string };
  from: string;
}

it.each(forbidden)('%s: %s must not import %s', (rule, from) => {
  expect(found).toContain(`${rule}: ${from}`);
});

it('lets everything else pass', () => {
  const expected = new Set(forbidden.map(([rule, from]) => `${rule}: ${from}`));
  // The cycle's other end.
  expected.add('no-cycles: services/api-gateway/src/b.ts');
  expect(found.filter((violation) => !expected.has(violation))).toEqual([]);
});

it('has a row here for every rule, which says why it is there', async () => {
  const { default: config } = (await import('../.dependency-cruiser.cjs')) as {
    default: { forbidden: { name: string; comment?: string }[] };
  };
  // `m2 check` shows the comment to whom the rule bites.
  expect(config.forbidden.filter(({ comment }) => !comment)).toEqual([]);
  expect(new Set(forbidden.map(([rule]) => rule))).toEqual(new Set(config.forbidden.map(({ name }) => name)));
});

/** Unit tests share workers, and what they have imported: those that come later would have the replacement too. */
it('no unit test replaces a module', () => {
  const tests = globSync('{libs,services,apps,lab,bench}/**/src/**/*.spec.ts', {
    cwd: root,
    exclude: (path) => path === 'node_modules' || path === 'dist',
  });
  expect(tests.length).toBeGreaterThan(50);
  expect(tests.filter((test) => /\bvi\.(do)?[mM]ock\(/.test(readFileSync(join(root, test), 'utf8')))).toEqual([]);
});
