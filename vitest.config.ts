import { globSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig, type TestUserConfig } from 'vitest/config';

/** Tests read the workspace's sources, so no build has to be fresh before `vitest` runs. */
const root = fileURLToPath(new URL('.', import.meta.url));
const packages = ['libs', 'services', 'apps'].flatMap((dir) =>
  readdirSync(root + dir).map((name) => [name, `${dir}/${name}`]),
);
const alias = Object.fromEntries([
  // Before the packages themselves: an alias takes everything that begins with it.
  ['@m2/service-kit/testing', `${root}libs/service-kit/src/testing/index.ts`],
  ['@m2/storage/testing', `${root}libs/storage/src/testing/index.ts`],
  ['@m2/storage/drivers', `${root}libs/storage/src/drivers.ts`],
  ['@m2/saga/testing', `${root}libs/saga/src/testing/index.ts`],
  ['@m2/lab/testing', `${root}lab/src/testing/index.ts`],
  ...[...packages, ['lab', 'lab'], ['e2e', 'e2e'], ['faults', 'faults'], ['bench', 'bench']].map(([name, dir]) => [
    `@m2/${name}`,
    `${root}${dir}/src/index.ts`,
  ]),
]);

const unitTests = ['{libs,services,apps,lab,bench}/**/src/**/*.spec.ts', '{tools,deploy}/*.spec.ts'];
/**
 * Unit tests share a worker, and the modules that they import. One that replaces a module (`vi.mock`) would replace it for those after it,
 * so it gets a worker of its own.
 */
const isolated = globSync(unitTests, {
  cwd: root,
  exclude: (path) => path === 'node_modules' || path === 'dist',
}).filter((file) => readFileSync(root + file, 'utf8').includes('vi.mock('));

/** Where a test waits for another process, or for a node that boots, more workers than processors pay. */
const waiting = 4;

interface Tier {
  name: string;
  include: string[];
  testTimeout: number;
  maxWorkers: number;
  /** Projects of the same group run together; groups run one after the other. */
  group: number;
}

const tier = ({ name, include, testTimeout, maxWorkers, group }: Tier, more: TestUserConfig = {}) => ({
  resolve: { alias },
  test: {
    name,
    include,
    testTimeout,
    hookTimeout: testTimeout,
    maxWorkers,
    sequence: { groupOrder: group },
    ...more,
  },
});
const unit = { testTimeout: 20_000, maxWorkers: 2, group: 1 };
const whole = { testTimeout: 900_000, maxWorkers: waiting, group: 3 };

export default defineConfig({
  test: {
    // What the shared servers take to stop.
    teardownTimeout: 60_000,
    projects: [
      tier(
        { name: 'unit', include: unitTests, ...unit },
        { pool: 'threads', isolate: false, exclude: [...configDefaults.exclude, ...isolated] },
      ),
      tier({ name: 'unit-isolated', include: isolated, ...unit }),
      tier(
        {
          name: 'it',
          include: ['{libs,services,apps,lab,bench}/**/src/**/*.it.ts', '{tools,deploy}/*.it.ts'],
          testTimeout: 120_000,
          maxWorkers: waiting,
          group: 2,
        },
        { globalSetup: 'libs/service-kit/src/testing/global-setup.ts' },
      ),
      // Together: one is mostly at work on nodes that boot, the other waits for services that start.
      tier({ name: 'e2e', include: ['e2e/src/**/*.e2e.ts'], ...whole }),
      tier({ name: 'faults', include: ['faults/src/**/*.faults.ts'], ...whole }),
    ],
  },
});
