import { describeStorageBackend, openFile } from '../../storage.conformance.js';
import { FileBackend } from './file-backend.js';
import { canMount, killDaemon, loopPlace, temporaryPlace } from './file-backend.fixture.js';
import type { TestPlace } from './file-backend.fixture.js';

const harness = (makePlace: () => Promise<TestPlace>, clones: 'overlays' | 'reflinks') => async () => {
  const place = await makePlace();
  let backend: FileBackend | undefined;
  return {
    open: async () => (backend = await FileBackend.open({ directory: place.directory })),
    io: { open: openFile },
    foreign: 'files are not volumes of others',
    ...(clones === 'overlays' && { killDaemon: () => killDaemon(place.directory) }),
    fill: place.fill,
    teardown: async () => {
      await backend?.close();
      await place.teardown();
    },
  };
};

if (canMount) {
  describeStorageBackend(
    'file, overlays on ext4',
    harness(() => loopPlace('ext4'), 'overlays'),
  );
  describeStorageBackend(
    'file, reflinks on XFS',
    harness(() => loopPlace('xfs'), 'reflinks'),
  );
} else {
  // Without root, in the directory for temporary files, which is seldom on a file system with reflinks.
  describeStorageBackend('file, unprivileged', harness(temporaryPlace, 'overlays'));
}
