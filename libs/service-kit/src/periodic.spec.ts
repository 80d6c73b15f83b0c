import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Periodic } from './periodic.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A `Periodic` of one second. Each run stays under way until the test ends it. */
function openPeriodic() {
  const runs: PromiseWithResolvers<void>[] = [];
  const errors: unknown[] = [];
  const signals: AbortSignal[] = [];
  const periodic = new Periodic({
    everyMs: 1_000,
    work: (signal) => {
      const run = Promise.withResolvers<void>();
      runs.push(run);
      signals.push(signal);
      return run.promise;
    },
    onError: (error) => errors.push(error),
  });
  /** Ends the run with that number. */
  const end = async (number: number, error?: Error) => {
    const run = runs[number - 1]!;
    if (error) run.reject(error);
    else run.resolve();
    await vi.advanceTimersByTimeAsync(0);
  };
  return { periodic, runs, errors, signals, end };
}

describe('a periodic work', () => {
  it('runs after each period, and not at the start', async () => {
    const { periodic, runs, end } = openPeriodic();
    periodic.start();
    await vi.advanceTimersByTimeAsync(999);
    expect(runs).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(runs).toHaveLength(1);
    await end(1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(runs).toHaveLength(2);
  });

  it('leaves out a run that is due while another is under way', async () => {
    const { periodic, runs, end } = openPeriodic();
    periodic.start();
    await vi.advanceTimersByTimeAsync(5_500);
    expect(runs).toHaveLength(1);
    await end(1);
    expect(runs).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(500);
    expect(runs).toHaveLength(2);
  });

  it('runs at once when it is woken', () => {
    const { periodic, runs } = openPeriodic();
    periodic.start();
    periodic.wake();
    expect(runs).toHaveLength(1);
  });

  it('runs once more when it was woken during a run, however often', async () => {
    const { periodic, runs, end } = openPeriodic();
    periodic.wake();
    periodic.wake();
    periodic.wake();
    expect(runs).toHaveLength(1);
    await end(1);
    expect(runs).toHaveLength(2);
    await end(2);
    expect(runs).toHaveLength(2);
  });

  it('hands errors on, and goes on', async () => {
    const { periodic, runs, errors, end } = openPeriodic();
    periodic.start();
    periodic.wake();
    await end(1, new Error('no luck'));
    expect(errors).toEqual([new Error('no luck')]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(runs).toHaveLength(2);
  });

  it('hands on what the work throws before it waits for anything', async () => {
    const errors: unknown[] = [];
    const work = () => {
      throw new Error('at once');
    };
    const periodic = new Periodic({ everyMs: 1_000, work, onError: (error) => errors.push(error) });
    periodic.wake();
    await periodic.stop();
    expect(errors).toEqual([new Error('at once')]);
  });

  it('when it stops, waits for the run that is under way and begins no other', async () => {
    const { periodic, runs, signals, end } = openPeriodic();
    periodic.start();
    periodic.wake();
    periodic.wake();
    let stopped = false;
    const stopping = periodic.stop().then(() => (stopped = true));
    expect(signals[0]!.aborted).toBe(true);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(stopped).toBe(false);
    await end(1);
    await stopping;
    periodic.wake();
    await vi.advanceTimersByTimeAsync(3_000);
    expect(runs).toHaveLength(1);
  });

  it('keeps no process alive', () => {
    const { periodic } = openPeriodic();
    const timer = vi.spyOn(globalThis, 'setInterval');
    periodic.start();
    expect((timer.mock.results[0]!.value as NodeJS.Timeout).hasRef()).toBe(false);
    timer.mockRestore();
  });
});
