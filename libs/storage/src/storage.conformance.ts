import { rm } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe } from 'vitest';
import { attachments } from './conformance/attachments.js';
import { clones } from './conformance/clones.js';
import { concurrency } from './conformance/concurrency.js';
import { diffs } from './conformance/diffs.js';
import { flattening } from './conformance/flattening.js';
import { foreignVolumes } from './conformance/foreign.js';
import { goldens } from './conformance/goldens.js';
import type { StorageHarness } from './conformance/harness.js';
import { housekeeping } from './conformance/housekeeping.js';
import { makeImages } from './conformance/images.js';
import { reading } from './conformance/reading.js';
import { sizes } from './conformance/sizes.js';
import { Suite } from './conformance/suite.js';
import { tags } from './conformance/tags.js';

export type { ForeignVolumes, OpenDisk, StorageHarness } from './conformance/harness.js';
export { openFile } from './conformance/harness.js';

/** The behaviour that every storage backend must have, tested with real parts. Call it from the backend's `*.it.ts`. */
export function describeStorageBackend(title: string, setUp: () => Promise<StorageHarness>): void {
  describe(`storage backend conformance: ${title}`, () => {
    const suite = new Suite();

    beforeAll(async () => {
      suite.images = await makeImages();
      suite.harness = await setUp();
      suite.backend = await suite.harness.open();
    });
    afterAll(async () => {
      await suite.harness?.teardown();
      if (suite.images) await rm(suite.images.directory, { recursive: true });
    });
    beforeEach(() => suite.begin());
    afterEach(() => suite.end());

    for (const part of [
      goldens,
      clones,
      tags,
      sizes,
      flattening,
      reading,
      diffs,
      foreignVolumes,
      attachments,
      concurrency,
      housekeeping,
    ]) {
      part(suite);
    }
  });
}
