import { type Stage, startStage } from '@m2/cli';
import { afterAll, beforeAll } from 'vitest';
import { closeWithoutLeftovers } from './leftovers.js';
import { describeCeph } from './stories/ceph.js';
import { describePortals } from './stories/portals.js';

/** The stories of disks in Ceph share a stage and its cluster. */
let stage: Stage;
const started = () => stage;

beforeAll(async () => {
  const env = { iscsi: { M2_PORTAL_HOST: 'host-a', M2_RECONCILE_SECONDS: '2' } };
  stage = await startStage({
    nodes: [{ name: 'node-1' }, { name: 'node-2' }],
    network: 'user',
    storage: 'ceph',
    env,
  });
});
afterAll(() => closeWithoutLeftovers(stage));

describeCeph(started);
describePortals(started);
