import { M2Error } from '@m2/contracts';
import { type Kit, type Lease, Periodic } from '@m2/service-kit';

const takeUpEveryMs = 30_000;
/** After its first failure, work is tried again this soon; after each one more, twice as late, until the rounds are sooner. */
const retryMs = 500;

export interface BackgroundWork {
  /** Used in logs and in the lease's name, e.g. "import". */
  name: string;
  /** How many run at the same time; more wait. */
  concurrency: number;
  /** The identifiers of what has to be done, in order, from the database. */
  due(): Promise<string[]>;
  /**
   * Does one thing. Throw to have it tried again soon. No other replica works on it meanwhile; the transaction that ends it asserts that.
   */
  run(id: string, lease: Lease): Promise<void>;
}

/**
 * Work that a command only starts, because its time grows with the number of bytes. The database says what has to be done, so the work
 * survives the service, and other replicas take over from one that died.
 */
export class Background {
  private readonly running = new Map<string, { stop: AbortController; done: Promise<void> }>();
  private readonly waiting: string[] = [];
  private readonly failures = new Map<string, number>();
  private readonly retries = new Set<NodeJS.Timeout>();
  private readonly rounds: Periodic;

  constructor(
    private readonly kit: Kit,
    private readonly work: BackgroundWork,
  ) {
    this.rounds = new Periodic({
      everyMs: takeUpEveryMs,
      work: () => this.takeUp(),
      onError: (err) => kit.log.warn({ err, work: work.name }, 'could not look for background work; it tries again'),
    });
  }

  /** Starts what the database says has to be done: now, and every 30 seconds. */
  async open(): Promise<void> {
    await this.takeUp();
    this.rounds.start();
  }

  private async takeUp(): Promise<void> {
    for (const id of await this.work.due()) this.start(id);
  }

  async close(): Promise<void> {
    // From here on `start` does nothing. The storage is closed next, so whatever began now would fail.
    await this.rounds.stop();
    this.waiting.length = 0;
    for (const retry of this.retries) clearTimeout(retry);
    await Promise.all([...this.running.keys()].map((id) => this.stop(id)));
  }

  /** Starts the work, or queues it when enough is running. */
  start(id: string): void {
    if (this.rounds.signal.aborted || this.running.has(id) || this.waiting.includes(id)) return;
    if (this.running.size >= this.work.concurrency) {
      this.waiting.push(id);
      return;
    }
    const stop = new AbortController();
    const done = this.attempt(id, stop.signal).finally(() => {
      this.running.delete(id);
      const next = this.waiting.shift();
      if (next) this.start(next);
    });
    this.running.set(id, { stop, done });
  }

  /** Returns when this replica does not work on it any more. */
  async stop(id: string): Promise<void> {
    const at = this.waiting.indexOf(id);
    if (at >= 0) this.waiting.splice(at, 1);
    const job = this.running.get(id);
    job?.stop.abort(new M2Error('storage.aborted', `The ${this.work.name} was stopped`));
    await job?.done;
  }

  private async attempt(id: string, signal: AbortSignal): Promise<void> {
    try {
      // Another replica may work on it: it is looked for again.
      await this.kit.leases.tryHold(`${this.work.name} ${id}`, (lease) =>
        this.work.run(id, { ...lease, signal: AbortSignal.any([signal, lease.signal]) }),
      );
      this.failures.delete(id);
    } catch (error) {
      this.kit.log.error(
        { err: error, work: this.work.name, id },
        'background work was interrupted; it is tried again',
      );
      this.retry(id);
    }
  }

  private retry(id: string): void {
    const failures = this.failures.get(id) ?? 0;
    const delayMs = retryMs * 2 ** failures;
    // The rounds do the rest. Work that is not due any more is not kept in mind.
    if (delayMs >= takeUpEveryMs) return void this.failures.delete(id);
    this.failures.set(id, failures + 1);
    const timer = setTimeout(() => {
      this.retries.delete(timer);
      this.start(id);
    }, delayMs);
    this.retries.add(timer);
  }
}

const progressEveryMs = 500;

/** Passes progress on, at most twice a second unless it says otherwise. */
export function throttled(tell: (done: number, total: number | null) => void, everyMs = progressEveryMs) {
  let last = -Infinity;
  return (done: number, total: number | undefined): void => {
    if (performance.now() - last < everyMs) return;
    last = performance.now();
    tell(done, total ?? null);
  };
}
