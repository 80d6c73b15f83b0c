interface Turn {
  shared: boolean;
  run: () => void;
}

/**
 * Readers-writer locks by name, first come first served. `exclusive` work has a name for itself; `shared` work of one name runs at the same
 * time. Work of different names does not wait for each other. The locks are in this process only.
 *
 * `patience`, asked for only when there is something to wait for, ends the wait when it aborts: the call rejects with its reason.
 */
export class Locks {
  private readonly held = new Map<string, { holders: number; shared: boolean; waiting: Turn[] }>();

  exclusive<T>(key: string, work: () => Promise<T>, patience?: () => AbortSignal): Promise<T> {
    return this.with(key, false, work, patience);
  }

  shared<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.with(key, true, work);
  }

  /** Resolves when all work that is running or queued now has ended, with or without an error. */
  async settled(): Promise<void> {
    await Promise.all([...this.held.keys()].map((key) => this.exclusive(key, async () => {})));
  }

  private async with<T>(
    key: string,
    shared: boolean,
    work: () => Promise<T>,
    patience?: () => AbortSignal,
  ): Promise<T> {
    const lock = this.held.get(key);
    if (!lock) {
      this.held.set(key, { holders: 1, shared, waiting: [] });
    } else if (shared && lock.shared && lock.waiting.length === 0) {
      lock.holders += 1;
    } else {
      await this.turn(lock.waiting, shared, patience?.());
    }
    try {
      return await work();
    } finally {
      this.release(key);
    }
  }

  private turn(waiting: Turn[], shared: boolean, patience: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (patience?.aborted) return reject(patience.reason as Error);
      const leave = () => {
        waiting.splice(waiting.indexOf(mine), 1);
        reject(patience!.reason as Error);
      };
      const run = () => {
        patience?.removeEventListener('abort', leave);
        resolve();
      };
      const mine = { shared, run };
      patience?.addEventListener('abort', leave, { once: true });
      waiting.push(mine);
    });
  }

  /** Passes the lock to the first that waits, and to every reader directly behind a reader. */
  private release(key: string): void {
    const lock = this.held.get(key);
    if (!lock || --lock.holders > 0) return;
    const next = lock.waiting.shift();
    if (!next) {
      this.held.delete(key);
      return;
    }
    const turns = [next];
    while (next.shared && lock.waiting[0]?.shared) turns.push(lock.waiting.shift()!);
    lock.holders = turns.length;
    lock.shared = next.shared;
    for (const turn of turns) turn.run();
  }
}
