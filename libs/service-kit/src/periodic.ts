export interface PeriodicOptions {
  /** The time from one run to the next. */
  everyMs: number;
  /** `signal` aborts when `stop` was called: work that takes long looks at it. */
  work(signal: AbortSignal): Promise<void>;
  /** Gets what a run threw. The next run comes all the same. */
  onError(error: unknown): void;
}

/**
 * Work that is done again and again: every `everyMs` and at once after `wake()`. There are never two runs at a time. A run that is due while
 * another is under way is left out; a wake-up during a run is followed by exactly one more run.
 */
export class Periodic {
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private woken = false;

  constructor(private readonly options: PeriodicOptions) {}

  /** Aborted from `stop()` on. */
  get signal(): AbortSignal {
    return this.stopping.signal;
  }

  /** The first run comes after `everyMs`; for one at once, call `wake` too. */
  start(): void {
    this.timer ??= setInterval(() => this.run(), this.options.everyMs).unref();
  }

  /** Runs the work now, or once more after the run that is under way. After `stop` it does nothing. */
  wake(): void {
    if (this.running) this.woken = true;
    else this.run();
  }

  /** No run begins any more. Resolves when the one that is under way has ended. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await this.running;
  }

  private run(): void {
    if (this.running || this.signal.aborted) return;
    this.woken = false;
    this.running = this.attempt().finally(() => {
      this.running = undefined;
      if (this.woken) this.run();
    });
  }

  private async attempt(): Promise<void> {
    try {
      await this.options.work(this.signal);
    } catch (error) {
      this.options.onError(error);
    }
  }
}
