import { StorageError } from '../storage.port.js';

/**
 * Waits for `work` for at most `milliseconds`, then rejects with `storage.timeout`. The work itself goes on: a system call on a dead disk
 * cannot be cancelled.
 */
export async function withDeadline<T>(work: Promise<T>, milliseconds: number, doing: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new StorageError('storage.timeout', `No answer within ${milliseconds} ms to ${doing}. Check the storage.`),
        ),
      milliseconds,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
