interface Waiting {
  key: string;
  enter(): void;
}

/** Lets work in: one at a time per key, at most `limit` at a time in total, first come first served. */
export class Turnstile {
  readonly #busy = new Set<string>();
  #waiting: Waiting[] = [];

  constructor(private readonly limit: number) {}

  /** Rejects with the signal's reason when it aborts before the work has begun. Running work must watch the signal itself. */
  async pass<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#turn(key, signal);
    try {
      return await work();
    } finally {
      this.#busy.delete(key);
      this.#admit();
    }
  }

  #turn(key: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting = this.#waiting.filter((other) => other !== mine);
        reject(signal.reason as Error);
      };
      const enter = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const mine = { key, enter };
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(mine);
      this.#admit();
    });
  }

  #admit(): void {
    while (this.#busy.size < this.limit) {
      const next = this.#waiting.findIndex(({ key }) => !this.#busy.has(key));
      const [waiting] = next < 0 ? [] : this.#waiting.splice(next, 1);
      if (!waiting) return;
      this.#busy.add(waiting.key);
      waiting.enter();
    }
  }
}
