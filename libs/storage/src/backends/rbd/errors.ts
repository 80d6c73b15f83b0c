import { RbdError } from '@m2/rbd';
import type { RbdErrorCode } from '@m2/rbd';
import { asStorageError, StorageError } from '../../storage.port.js';
import type { LongWork, StorageErrorCode } from '../../storage.port.js';

const codes: Record<RbdErrorCode, StorageErrorCode> = {
  not_found: 'storage.not_found',
  exists: 'storage.exists_differently',
  busy: 'storage.in_use',
  full: 'storage.full',
  timeout: 'storage.timeout',
  unavailable: 'storage.unavailable',
  denied: 'storage.misconfigured',
  invalid: 'storage.unavailable',
  failed: 'storage.unavailable',
};

/** Runs a call of the port, and translates its errors to the port's codes. An aborted call rejects with the signal's reason. */
export async function translateErrors<T>(doing: string, work: () => Promise<T>, { signal }: LongWork = {}): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await work();
  } catch (error) {
    signal?.throwIfAborted();
    throw storageError(error, doing);
  }
}

/** `doing` names the action, e.g. "clone a1img2". */
function storageError(error: unknown, doing: string): StorageError {
  if (!(error instanceof RbdError)) return asStorageError(error, doing);
  const code = isNoPool(error) ? 'storage.misconfigured' : codes[error.code];
  return new StorageError(code, `Could not ${doing}: ${error.message}`, { cause: error });
}

/** When the I/O context cannot be created, the pool is missing: nothing is known about the images. */
const isNoPool = (error: RbdError) => error.code === 'not_found' && error.call === 'rados_ioctx_create';

/** The image, the snapshot or the namespace does not exist. */
export const isMissing = (error: unknown): boolean => isRbd(error, 'not_found') && !isNoPool(error as RbdError);

export const isRbd = (error: unknown, code: RbdErrorCode): boolean => error instanceof RbdError && error.code === code;

/** The result of `work`, or undefined when its object does not exist. */
export async function undefinedIfMissing<T>(work: Promise<T>): Promise<T | undefined> {
  return work.catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
}

/** Runs `work`. This error means that it was done before. */
export async function ignoring(code: RbdErrorCode, work: Promise<void>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isRbd(error, code) || isNoPool(error as RbdError)) throw error;
  });
}

export function notFound(what: string): StorageError {
  return new StorageError('storage.not_found', `There is no ${what}. Check the name.`);
}

export function existsDifferently(volume: string): StorageError {
  return new StorageError(
    'storage.exists_differently',
    `Volume ${volume} exists with another origin or size. Use a new name: names are never used again.`,
  );
}

export function inUse(volume: string, by: string): StorageError {
  return new StorageError('storage.in_use', `Volume ${volume} is in use: ${by}`);
}

export const isOpen = 'somebody has it open. Detach it, or wait until whoever reads it is done.';
export const hasClones = (count: number, one: string): string =>
  `it has ${count} clone(s), ${one} for one. Remove them, or make them flat.`;
