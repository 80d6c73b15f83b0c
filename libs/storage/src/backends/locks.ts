interface Turn {
  shared: boolean;
  run: () => void;
}

/**
 * Readers-writer locks by name, first come first served: a golden volume is not removed while it is being cloned, and two calls for one
 * volume never overlap.
 */
export class Locks {
  private readonly held = new Map<string, { holders: number; shared: boolean; waiting: Turn[] }>();

  exclusive<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.with(key, false, work);
  }

  shared<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.with(key, true, work);
  }

  private async with<T>(key: string, shared: boolean, work: () => Promise<T>): Promise<T> {
    const lock = this.held.get(key);
    if (!lock) {
      this.held.set(key, { holders: 1, shared, waiting: [] });
    } else if (shared && lock.shared && lock.waiting.length === 0) {
      lock.holders += 1;
    } else {
      await new Promise<void>((run) => lock.waiting.push({ shared, run }));
    }
    try {
      return await work();
    } finally {
      this.release(key);
    }
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
