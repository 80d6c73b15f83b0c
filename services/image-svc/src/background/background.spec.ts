import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { throttled } from './background.js';

const hour = 3_600_000;

describe('progress', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is told at once, and then at most as often as it is wanted', () => {
    const told: number[] = [];
    const progress = throttled((done) => told.push(done), 500);
    for (let at = 0; at <= 1_000; at += 100) {
      progress(at, undefined);
      vi.advanceTimersByTime(100);
    }
    expect(told).toEqual([0, 500, 1_000]);
  });

  it.each([
    ['back', -hour],
    ['forward', hour],
  ])('is told as often when somebody sets the clock %s', (_, byMs) => {
    const told: number[] = [];
    const progress = throttled((done) => told.push(done), 500);
    progress(1, undefined);
    // oxlint-disable-next-line no-restricted-properties -- it is set
    vi.setSystemTime(Date.now() + byMs);
    progress(2, undefined);
    vi.advanceTimersByTime(500);
    progress(3, undefined);
    expect(told).toEqual([1, 3]);
  });
});
