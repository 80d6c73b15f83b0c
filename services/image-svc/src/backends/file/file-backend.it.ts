import { describeStorageBackend } from '../storage.conformance.js';
import { FileBackend } from './file-backend.js';
import { isRoot, killDaemon, loopPlace, temporaryPlace } from './file-backend.fixture.js';
import type { TestPlace } from './file-backend.fixture.js';

const harness = (makePlace: () => Promise<TestPlace>, daemon: boolean) => async () => {
  const place = await makePlace();
  let backend: FileBackend | undefined;
  return {
    open: async () => (backend = await FileBackend.open({ directory: place.directory })),
    ...(daemon && { killDaemon: () => killDaemon(place.directory) }),
    fill: place.fill,
    teardown: async () => {
      await backend?.close();
      await place.teardown();
    },
  };
};

if (isRoot) {
  describeStorageBackend(
    'file, overlays on ext4',
    harness(() => loopPlace('ext4'), true),
  );
  describeStorageBackend(
    'file, reflinks on XFS',
    harness(() => loopPlace('xfs'), false),
  );
} else {
  describeStorageBackend('file, unprivileged', harness(temporaryPlace, false));
}
