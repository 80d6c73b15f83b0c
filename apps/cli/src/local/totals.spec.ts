import { describe, expect, it } from 'vitest';
import { runAll } from './check.js';
import { judge, type TestRun } from './runner.js';
import { type FileReport, slowest, summarize, type Tier } from './test-report.js';
import { totalsLine } from './totals.js';

const file = (tier: Tier, startedAt: number, endedAt: number, counts: Partial<FileReport> = {}): FileReport => ({
  file: `${tier}-${startedAt}`,
  tier,
  startedAt,
  endedAt,
  passed: 3,
  failed: 0,
  skipped: 1,
  ...counts,
});
const run = (counts: Partial<FileReport> = {}, code: number | null = 0): TestRun => ({
  code,
  report: { files: [file('unit', 0, 1, counts)] },
});

describe('summarize', () => {
  const report = { files: [file('it', 0, 3_000), file('unit', 0, 9_000), file('it', 1_000, 4_500, { failed: 2 })] };

  it('counts the tests of a tier, and its time from the first file to the last', () => {
    expect(summarize(report, 'it')).toEqual({
      tier: 'it',
      files: 2,
      seconds: 4.5,
      fileSeconds: 6.5,
      passed: 6,
      failed: 2,
      skipped: 2,
    });
  });

  it('finds nothing where nothing ran', () => {
    expect(summarize(report, 'e2e')).toMatchObject({ files: 0, seconds: 0, passed: 0 });
  });

  it('names the files that took longest', () => {
    expect(slowest(report, 2).map(({ startedAt, endedAt }) => endedAt - startedAt)).toEqual([9_000, 3_500]);
  });
});

describe('judge', () => {
  it('adds up all runs', () => {
    const { totals, good } = judge([run(), run()], ['unit']);
    expect(totalsLine(totals)).toBe('6 passed, 0 failed, 2 skipped');
    expect(good).toBe(true);
  });

  it.each([
    ['failed', run({ failed: 1 }, 1)],
    ['broke beside its tests', run({}, 1)],
    ['was killed', run({}, null)],
    ['left no report', { code: 0, report: undefined }],
  ])('is not content when a run %s', (_what, bad) => expect(judge([run(), bad], ['unit']).good).toBe(false));

  it('counts a run without a report as a failure', () => {
    expect(judge([run(), { code: 1, report: undefined }], ['unit']).totals).toEqual({
      passed: 3,
      failed: 1,
      skipped: 1,
    });
  });

  it('is content with an empty tier only where only a part was to run', () => {
    expect(judge([run({ passed: 0 })], ['unit']).good).toBe(false);
    expect(judge([run()], ['unit', 'it']).good).toBe(false);
    expect(judge([run()], ['unit', 'it'], { mayBeEmpty: true }).good).toBe(true);
  });
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
