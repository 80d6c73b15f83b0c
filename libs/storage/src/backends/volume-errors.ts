import { StorageError } from '../storage.port.js';

export function notFound(volume: string): never {
  throw new StorageError('storage.not_found', `There is no volume ${volume}. Check the name, or import it first.`);
}

export function attached(volume: string): StorageError {
  return new StorageError('storage.in_use', `Disk ${volume} is attached. Detach it first.`);
}

export function existsDifferently(volume: string): StorageError {
  return new StorageError(
    'storage.exists_differently',
    `Volume ${volume} exists with another origin or size. Use a new name: names are never used again.`,
  );
}

export function noTag(disk: string, tag: string): never {
  throw new StorageError('storage.not_found', `Disk ${disk} has no tag ${JSON.stringify(tag)}. Check its tags.`);
}
