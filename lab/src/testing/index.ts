import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inject } from 'vitest';
import { type CephAccess, type LabCeph, startCeph } from '../ceph/ceph.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The directory of this run of the tests; see test-run.ts in libs/service-kit. */
    testRun: string;
  }
}

export interface TestCeph extends CephAccess {
  /** The test file needs it no more. */
  stop(): Promise<void>;
}

/**
 * The cluster that all test files of a run use, each with pools and a user of its own. The first file that asks for it starts it; it ends
 * with the run. Its daemons may not be killed or stopped, and it may not be filled up.
 */
export async function sharedCeph(): Promise<TestCeph> {
  const ceph = await startCeph({ directory: join(inject('testRun'), 'ceph') });
  return { ...(await ceph.access(`test-${randomBytes(4).toString('hex')}`)), stop: async () => {} };
}

/** A cluster of a test file's own, for tests that take it or a part of it away; some 5 s. `stop` removes it. */
export async function ownCeph(): Promise<LabCeph> {
  const directory = await mkdtemp(join(inject('testRun'), 'own-ceph-'));
  const ceph = await startCeph({ directory });
  return {
    ...ceph,
    async stop() {
      await ceph.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
