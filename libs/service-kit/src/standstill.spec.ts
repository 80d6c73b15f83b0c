import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Standstill } from './standstill.js';

let now = 0;
let standstill: Standstill;
beforeEach(() => {
  vi.useFakeTimers();
  now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  standstill = new Standstill();
});
afterEach(() => {
  standstill.stop();
  vi.restoreAllMocks();
  vi.useRealTimers();
});
const beat = (ms: number) => {
  now += ms;
  vi.advanceTimersByTime(250);
};

it('a process that runs lets nothing wait, nor does one that is busy', () => {
  beat(250);
  beat(900);
  now += 700;
  expect(standstill.waitedMs).toBe(0);
});

it('what is read after a standstill has waited as long, before and after it is noticed, and then no more', () => {
  beat(250);
  now += 60_250;
  expect(standstill.waitedMs).toBe(60_000);
  vi.advanceTimersByTime(250);
  now += 500;
  expect(standstill.waitedMs).toBe(60_000);
  beat(250);
  beat(250);
  beat(250);
  expect(standstill.waitedMs).toBe(0);
});
