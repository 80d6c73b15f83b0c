import { StorageDaemonError } from '@m2/storage-daemon';
import { StorageError } from '../../storage.port.js';

/** Runs a call of the storage daemon, and turns its errors into the port's. */
export async function mapDaemonErrors<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof StorageDaemonError ? fromDaemon(error) : error;
  }
}

function fromDaemon(error: StorageDaemonError): StorageError {
  switch (error.code) {
    case 'daemon.not_installed':
      return new StorageError(
        'storage.misconfigured',
        `${error.message} A file system with reflinks (XFS, btrfs) needs none.`,
        { cause: error },
      );
    case 'daemon.full':
      return new StorageError(
        'storage.too_many_attached',
        `${error.message} On a file system with reflinks (XFS, btrfs) there is no such limit.`,
        { cause: error },
      );
    case 'daemon.misconfigured':
      return new StorageError('storage.misconfigured', error.message, { cause: error });
    case 'daemon.timeout':
      return new StorageError('storage.timeout', error.message, { cause: error });
    case 'daemon.unavailable':
      return new StorageError('storage.unavailable', error.message, { cause: error });
  }
}
