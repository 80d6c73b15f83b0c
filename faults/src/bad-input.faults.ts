import { afterAll, beforeAll, expect, it } from 'vitest';
import { beginBadBmcs, describeBadBmcs } from './bad-input/bmcs.js';
import { describeBadImages } from './bad-input/images.js';
import { describeBadNames } from './bad-input/names.js';
import { describeBadRequests } from './bad-input/requests.js';
import { describeStrangers } from './bad-input/strangers.js';
import { type Scene, startScene } from './scene.js';
import { expectNothing } from './things.js';

let started: Scene;
let stories: Awaited<ReturnType<typeof beginBadBmcs>>;
const scene = () => started;

beforeAll(async () => {
  stories = await beginBadBmcs();
  started = await startScene({ nodes: 2, importHosts: ['127.0.0.1'] });
});
afterAll(async () => {
  await started?.close();
  await stories?.close();
});

describeBadNames(scene);
describeBadRequests(scene);
describeStrangers(scene);
describeBadImages(scene);

it('leaves nothing behind, all of it together', async () => {
  await expect(expectNothing(scene())).resolves.toBeUndefined();
});

describeBadBmcs(() => stories);
