import { describe, expect, it } from 'vitest';
import { runAll } from './check.js';
import { judge } from './runner.js';
import { countReport, totalsLine } from './totals.js';

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((status) => ({ status })),
});
const report = (...testResults: object[]) => JSON.stringify({ success: true, testResults });

describe('countReport', () => {
  it('counts tests; whatever did not run is skipped', () => {
    const text = report(file('passed', 'passed', 'skipped', 'todo'), file('failed', 'failed', 'passed', 'pending'));
    expect(countReport(text)).toEqual({ passed: 2, failed: 1, skipped: 3 });
  });

  it('counts a file that could not be loaded, or whose hook broke, as a failure', () => {
    expect(countReport(report(file('failed'), file('failed', 'passed')))).toEqual({ passed: 1, failed: 2, skipped: 0 });
  });

  it('refuses what is no report', () => expect(() => countReport('{}')).toThrow('testResults'));
});

describe('judge', () => {
  const passed = { code: 0, totals: { passed: 3, failed: 0, skipped: 1 } };

  it('adds up all runners', () => {
    const { totals, good } = judge([passed, passed]);
    expect(totalsLine(totals)).toBe('6 passed, 0 failed, 2 skipped');
    expect(good).toBe(true);
  });

  it.each([
    ['failed', { code: 1, totals: { passed: 3, failed: 1, skipped: 0 } }],
    ['broke beside its tests', { code: 1, totals: { passed: 3, failed: 0, skipped: 0 } }],
    ['was killed', { code: null, totals: { passed: 3, failed: 0, skipped: 0 } }],
    ['ran nothing', { code: 0, totals: { passed: 0, failed: 0, skipped: 5 } }],
  ])('is not content when a runner %s', (_what, result) => expect(judge([passed, result]).good).toBe(false));
});

describe('runAll', () => {
  it('runs as many at a time as it may, and keeps the order', async () => {
    let running = 0;
    let most = 0;
    const gates = [1, 2, 3, 4].map(() => Promise.withResolvers<void>());
    const all = runAll([0, 1, 2, 3], 2, async (index) => {
      most = Math.max(most, ++running);
      await gates[index]?.promise;
      running -= 1;
      return index * 10;
    });
    for (const gate of gates.toReversed()) gate.resolve();
    expect(await all).toEqual([0, 10, 20, 30]);
    expect(most).toBe(2);
  });
});
