import { type Stage, startStage } from '@m2/cli';
import { afterAll, beforeAll } from 'vitest';
import { closeWithoutLeftovers } from './leftovers.js';
import { describeDisks } from './stories/disks.js';
import { describeIsolation } from './stories/isolation.js';
import { describeProvision } from './stories/provision.js';

/** With everything that the services can be made to say. */
const talkative = { M2_LOG_LEVEL: 'trace' };
const env = { gateway: talkative, image: talkative, iscsi: talkative, boot: talkative, hil: talkative };

/** The stories of disks in files share a stage; each has projects of its own, and leaves the nodes as they were. */
let stage: Stage;
const started = () => stage;

beforeAll(async () => {
  stage = await startStage({ nodes: [{ name: 'node-1' }, { name: 'node-2' }], network: 'user', env });
});
afterAll(() => closeWithoutLeftovers(stage));

describeProvision(started);
describeIsolation(started);
describeDisks(started);
