import { describe } from 'vitest';
import { describeStorageBackend, openFile } from '../../storage.conformance.js';
import type { StorageHarness } from '../../storage.conformance.js';
import { ZfsBackend } from './zfs-backend.js';
import { startZfsPool, whyNoZfs, zfsFuseLock } from './zfs-pool.fixture.js';

const reason = await whyNoZfs();
// Here, and not in a hook with its time limit: the test that has the lock may need minutes.
const endTurn = reason === undefined ? await zfsFuseLock() : undefined;

describe.skipIf(reason !== undefined)(`on zfs-fuse${reason ? ` (not here: ${reason})` : ''}`, () => {
  describeStorageBackend('ZFS', async (): Promise<StorageHarness> => {
    const pool = await startZfsPool();
    let backend: ZfsBackend | undefined;
    return {
      open: async () => (backend = await ZfsBackend.open({ dataset: pool.dataset })),
      io: { open: openFile },
      foreign: 'volumes are files of datasets, and others have files of their own in theirs',
      fill: pool.fill,
      teardown: async () => {
        await backend?.close();
        await pool.destroy();
        await endTurn?.();
      },
    };
  });
});
