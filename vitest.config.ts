import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type TestUserConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

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
  ['@m2/hil-adapter/drivers', `${root}services/hil-adapter/src/drivers.ts`],
  ['@m2/saga/testing', `${root}libs/saga/src/testing/index.ts`],
  ['@m2/lab/testing', `${root}lab/src/testing/index.ts`],
  ...[...packages, ['lab', 'lab'], ['e2e', 'e2e'], ['faults', 'faults'], ['bench', 'bench']].map(([name, dir]) => [
    `@m2/${name}`,
    `${root}${dir}/src/index.ts`,
  ]),
]);

/** The files that take longest by the report of `m2 test`, the longest first: one that starts last keeps all others waiting. */
const longest = [
  'libs/storage/src/backends/rbd/rbd-backend.it.ts',
  'lab/src/boot.it.ts',
  'services/iscsi-svc/src/backings/rbd-target.it.ts',
  'libs/storage/src/backends/zfs/zfs-backend.it.ts',
  'lab/src/network/lab-network.it.ts',
  'services/iscsi-svc/src/backings/backings.it.ts',
  'apps/supervisor/src/supervisor.it.ts',
  'lab/src/ceph/ceph.it.ts',
  'libs/storage/src/backends/rbd/rbd-recovery.it.ts',
  'libs/storage/src/backends/file/file-backend.it.ts',
  'apps/cli/src/stage/installation.it.ts',
  'faults/src/gateway.faults.ts',
  'faults/src/full-disk.faults.ts',
  'faults/src/ceph-steps.faults.ts',
  'faults/src/services.faults.ts',
  'e2e/src/ceph.e2e.ts',
  'e2e/src/files.e2e.ts',
  'faults/src/infrastructure.faults.ts',
  'faults/src/ceph.faults.ts',
  'faults/src/bad-input.faults.ts',
].map((file) => root + file);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const groupOf = ({ project }: TestSpecification) => project.config.sequence.groupOrder;
    const rankOf = ({ moduleId }: TestSpecification) =>
      longest.includes(moduleId) ? longest.indexOf(moduleId) : longest.length;
    return (await super.sort(files)).toSorted((a, b) => groupOf(a) - groupOf(b) || rankOf(a) - rankOf(b));
  }
}

/** Where a test waits for another process, or for a node that boots, more workers than processors pay. */
const waiting = 3;

interface Tier {
  name: string;
  include: string[];
  testTimeout: number;
  maxWorkers: number;
  /** Tiers of the same group run together; groups run one after the other. */
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
const whole = { testTimeout: 900_000, maxWorkers: waiting, group: 3 };

export default defineConfig({
  test: {
    // What the shared servers take to stop.
    teardownTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      // They share two threads, and the modules that they import: no unit test may replace one (tools/boundaries.spec.ts).
      tier(
        {
          name: 'unit',
          include: ['{libs,services,apps,lab,bench}/**/src/**/*.spec.ts', '{tools,deploy}/*.spec.ts'],
          testTimeout: 20_000,
          maxWorkers: 2,
          group: 1,
        },
        { pool: 'threads', isolate: false },
      ),
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
      tier({ name: 'faults', include: ['faults/src/**/*.faults.ts'], ...whole }, { setupFiles: 'faults/src/setup.ts' }),
      // On request, for as long as one likes (`m2 test chaos`); a minute of it is one of the faults.
      tier({ name: 'chaos', include: ['faults/src/chaos.faults.ts'], ...whole }),
    ],
  },
});
