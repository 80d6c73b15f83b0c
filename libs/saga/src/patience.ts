import type { M2Error } from '@m2/contracts';

const firstPauseMs = 100;
const longestPauseMs = 5_000;
/** What looks final is tried for this long where there is no way back, before a person is asked. */
const finalMs = 30_000;
/** A bug is asked for again after these pauses, and then no more. */
const bugPausesMs = [1_000, 4_000, 16_000, 64_000];

/**
 * How often a command is sent again, by the class of its errors (see `ErrorKind` in the contracts). All times are of a monotonic clock.
 */
export class Patience {
  private readonly startedAt = performance.now();
  private pauseMs = firstPauseMs;
  private bugs = 0;
  /** Time in which the service was not there. It counts for nothing. */
  private absentMs = 0;

  /** `hasWayBack`: the operation can be undone instead. */
  constructor(
    private readonly deadlineMs: number,
    private readonly hasWayBack: boolean,
  ) {}

  /** Milliseconds that are left until the deadline. */
  get remainingMs(): number {
    return this.deadlineMs - this.spentMs;
  }

  private get spentMs(): number {
    return performance.now() - this.startedAt - this.absentMs;
  }

  /** Milliseconds to wait before the command is sent again. Throws the failure when it is not to be sent again. */
  afterFailure(failure: M2Error, sentMs: number): number {
    if (failure.retry === 'bug') return this.afterBug(failure);
    const { pauseMs } = this;
    this.pauseMs = Math.min(longestPauseMs, pauseMs * 2);
    if (failure.retry === 'absent') this.wasAbsent(sentMs + pauseMs);
    // One that could not end in time would say that it was late, and not what is wrong.
    else if (this.spentMs + pauseMs + sentMs > this.limitMs(failure)) throw failure;
    return pauseMs;
  }

  /** Milliseconds to wait after a bug. Throws it when it has come too often in a row. */
  afterBug(failure: M2Error): number {
    const pauseMs = bugPausesMs[this.bugs];
    this.bugs += 1;
    if (pauseMs === undefined) throw failure;
    return pauseMs;
  }

  /** An answer came: the next bug is the first again. */
  answered(): void {
    this.bugs = 0;
  }

  wasAbsent(ms: number): void {
    this.absentMs += ms;
  }

  /** What touched nothing ends a step that can be undone at once: going back is clean, and costs nothing. */
  private limitMs(failure: M2Error): number {
    if (failure.retry === 'transient' && !(failure.untouched && this.hasWayBack)) return this.deadlineMs;
    return this.hasWayBack ? 0 : Math.min(this.deadlineMs, finalMs);
  }
}
