import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

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
  ...[...packages, ['lab', 'lab'], ['e2e', 'e2e'], ['faults', 'faults'], ['bench', 'bench']].map(([name, dir]) => [
    `@m2/${name}`,
    `${root}${dir}/src/index.ts`,
  ]),
]);

/** Files that boot nodes or kill services go one after the other: side by side they only make each other late. */
const tier = (name: string, include: string[], timeout: number, fileParallelism = true) => ({
  resolve: { alias },
  test: { name, include, testTimeout: timeout, hookTimeout: timeout, pool: 'forks' as const, fileParallelism },
});

export default defineConfig({
  test: {
    projects: [
      tier('unit', ['{libs,services,apps,lab,bench}/**/src/**/*.spec.ts', '{tools,deploy}/*.spec.ts'], 20_000),
      tier('it', ['{libs,services,apps,lab,bench}/**/src/**/*.it.ts', '{tools,deploy}/*.it.ts'], 120_000),
      tier('e2e', ['e2e/src/**/*.e2e.ts'], 900_000, false),
      tier('faults', ['faults/src/**/*.faults.ts'], 900_000, false),
    ],
  },
});
