import { StorageError } from '../../storage.port.js';

export function unsupported(): StorageError {
  return new StorageError(
    'storage.unsupported',
    'File storage has no volumes of others. Export the image as a file, and import from a file.',
  );
}
