import { type ErrorCode, M2Error } from '@m2/contracts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Patience } from './patience.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** How long, and how often, a command that always fails like this is sent. */
const insist = (code: ErrorCode, { deadlineMs = 120_000, hasWayBack = true } = {}) => {
  const patience = new Patience(deadlineMs, hasWayBack);
  const failure = new M2Error(code, 'as the test says');
  const started = performance.now();
  for (let sent = 1; sent < 1_000; sent += 1)
    try {
      vi.advanceTimersByTime(patience.afterFailure(failure, 0));
    } catch (error) {
      expect(error).toBe(failure);
      return { sent, ms: performance.now() - started };
    }
  return { sent: Infinity, ms: performance.now() - started };
};

describe('what is transient', () => {
  it('is asked for again until the deadline, on the way on and where there is no way back', () => {
    for (const hasWayBack of [true, false]) {
      const { ms } = insist('storage.timeout', { hasWayBack });
      expect(ms).toBeGreaterThan(110_000);
      expect(ms).toBeLessThanOrEqual(120_000);
    }
  });

  it('and touched nothing is not, where the step can be undone: a BMC that reboots for a minute is waited for only on the way back', () => {
    expect(insist('bmc.unreachable', { hasWayBack: true })).toEqual({ sent: 1, ms: 0 });
    expect(insist('bmc.unreachable', { hasWayBack: false }).ms).toBeGreaterThan(110_000);
  });
});

describe('what is final', () => {
  it('ends a step that can be undone at once', () => {
    expect(insist('node.busy')).toEqual({ sent: 1, ms: 0 });
  });

  it('is tried for half a minute where there is no way back, and not beyond the deadline', () => {
    const { ms } = insist('bmc.auth_failed', { hasWayBack: false });
    expect(ms).toBeGreaterThan(20_000);
    expect(ms).toBeLessThanOrEqual(30_000);
    expect(insist('bmc.auth_failed', { hasWayBack: false, deadlineMs: 5_000 }).ms).toBeLessThanOrEqual(5_000);
  });
});

describe('a bug', () => {
  it.each([true, false])(
    'is asked for five times with growing pauses, whatever the deadline (way back: %s)',
    (hasWayBack) => {
      expect(insist('internal', { deadlineMs: 24 * 3_600_000, hasWayBack })).toEqual({ sent: 5, ms: 85_000 });
    },
  );

  it('that comes after an answer is the first again', () => {
    const patience = new Patience(120_000, true);
    const bug = new M2Error('internal', 'x');
    const pauses = [patience.afterBug(bug), patience.afterBug(bug)];
    patience.answered();
    expect([...pauses, patience.afterBug(bug)]).toEqual([1_000, 4_000, 1_000]);
  });
});

describe('a service that is not there', () => {
  it('is waited for without an end, and the time counts for nothing', () => {
    expect(insist('service.unavailable', { deadlineMs: 10_000 }).sent).toBe(Infinity);
    const patience = new Patience(10_000, true);
    vi.advanceTimersByTime(60_000);
    const pauseMs = patience.afterFailure(new M2Error('service.unavailable', 'x'), 60_000);
    vi.advanceTimersByTime(pauseMs);
    expect(patience.remainingMs).toBe(10_000);
  });
});

it('is measured on a clock that nobody sets', () => {
  const patience = new Patience(120_000, true);
  // oxlint-disable-next-line no-restricted-properties -- it is set
  vi.setSystemTime(Date.now() + 24 * 3_600_000);
  expect(patience.remainingMs).toBe(120_000);
  expect(patience.afterFailure(new M2Error('storage.timeout', 'x'), 0)).toBe(100);
});
