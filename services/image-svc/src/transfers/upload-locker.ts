import { ERRORS, type Lock, type Locker, type RequestRelease } from '@tus/server';
import { once } from 'node:events';

/** A request that was told to end has this long. */
const patienceMs = 30_000;

/**
 * One request at a time per upload. A newer one has the older one end: its client has lost that connection, and asks where it is to go
 * on. Unlike the library's own locker it waits without polling, which there takes all of the processor meanwhile.
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
