export type StorageDaemonErrorCode =
  /** The directory cannot be used for a daemon. */
  | 'daemon.misconfigured'
  /** It shows as many disks as it can. */
  | 'daemon.full'
  /** The program is not on this machine. */
  | 'daemon.not_installed'
  /** The daemon does not answer in time: it hangs, or the storage below it does. */
  | 'daemon.timeout'
  /** The daemon is gone, or refused. */
  | 'daemon.unavailable';

/** The error of a storage daemon: a stable code, and a sentence that ends with what to do. */
export class StorageDaemonError extends Error {
  override readonly name = 'StorageDaemonError';

  constructor(
    readonly code: StorageDaemonErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * Waits for `work` for at most `milliseconds`, then rejects with `daemon.timeout`. The work itself goes on: a command to a daemon cannot be
 * cancelled.
 */
export async function withDeadline<T>(work: Promise<T>, milliseconds: number, doing: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      reject(
        new StorageDaemonError(
          'daemon.timeout',
          `No answer within ${milliseconds} ms to ${doing}. Check the storage below the daemon.`,
        ),
      ),
    milliseconds,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
