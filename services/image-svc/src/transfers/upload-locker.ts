import { ERRORS, type Lock, type Locker, type RequestRelease } from '@tus/server';
import { once } from 'node:events';

/** Time that a request has to end when it is told to. */
const patienceMs = 30_000;

/**
 * Allows one request per upload at a time. A newer request makes the older one end: its client has lost that connection and asks where to
 * go on. Unlike the library's own locker it does not poll, which would use all of the processor.
 */
export class UploadLocker implements Locker {
  private readonly held = new Map<string, { release: RequestRelease; freed: Promise<void>; free: () => void }>();

  newLock(id: string): Lock {
    return {
      lock: async (signal, release) => {
        let holder = this.held.get(id);
        const patience = holder && AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
        const gaveUp = patience && once(patience, 'abort');
        for (; holder; holder = this.held.get(id)) {
          await holder.release();
          await Promise.race([holder.freed, gaveUp]);
          if (patience?.aborted) throw ERRORS.ERR_LOCK_TIMEOUT;
        }
        const { promise: freed, resolve: free } = Promise.withResolvers<void>();
        this.held.set(id, { release, freed, free });
      },
      unlock: async () => {
        const holder = this.held.get(id);
        this.held.delete(id);
        holder?.free();
      },
    };
  }
}
