import { afterAll, beforeAll, expect, it } from 'vitest';
import { beginBadBmcs, describeBadBmcs } from './bad-input/bmcs.js';
import { describeBadImages } from './bad-input/images.js';
import { describeBadNames } from './bad-input/names.js';
import { describeProjects } from './bad-input/projects.js';
import { describeBadRequests } from './bad-input/requests.js';
import { describeStrangers } from './bad-input/strangers.js';
import { type TestInstallation, startTestInstallation } from './installation.js';
import { expectNothing } from './observed-state.js';

let started: TestInstallation;
let stories: Awaited<ReturnType<typeof beginBadBmcs>>;
const installation = () => started;

beforeAll(async () => {
  stories = await beginBadBmcs();
  started = await startTestInstallation({ nodes: 2, importHosts: ['127.0.0.1'] });
});
afterAll(async () => {
  await started?.close();
  await stories?.close();
});

describeBadNames(installation);
describeBadRequests(installation);
describeStrangers(installation);
describeBadImages(installation);
describeProjects(installation);

it('leaves nothing behind, all of it together', async () => {
  await expect(expectNothing(installation())).resolves.toBeUndefined();
});

describeBadBmcs(() => stories);
