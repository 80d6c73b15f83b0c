import { afterAll, beforeAll, describe } from 'vitest';
import { startCephInstallation } from './ceph/installation.js';
import { describeKilledInCeph } from './ceph/killed.js';
import type { TestInstallation } from './installation.js';

let started: TestInstallation;

beforeAll(async () => {
  started = await startCephInstallation();
});
afterAll(() => started?.close());

describe('in steps of Ceph,', () => {
  describeKilledInCeph(() => started);
});
