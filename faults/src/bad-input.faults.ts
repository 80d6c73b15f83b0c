import { afterAll, beforeAll, it } from 'vitest';
import { describeBadBmcs } from './bad-input/bmcs.js';
import { describeBadImages } from './bad-input/images.js';
import { describeBadNames } from './bad-input/names.js';
import { describeBadRequests } from './bad-input/requests.js';
import { describeStrangers } from './bad-input/strangers.js';
import { type Scene, startScene } from './scene.js';
import { expectNothing } from './things.js';

let started: Scene;
const scene = () => started;

beforeAll(async () => {
  started = await startScene({ nodes: 4, importHosts: ['127.0.0.1'] });
});
afterAll(() => started?.close());

describeBadNames(scene);
describeBadRequests(scene);
describeStrangers(scene);
describeBadImages(scene);
describeBadBmcs(scene);

it('leaves nothing behind, all of it together', () => expectNothing(scene()));
