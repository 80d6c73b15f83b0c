import { z } from 'zod';

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** What we read of the report that vitest's json reporter writes. */
const report = z.object({
  success: z.boolean(),
  testResults: z.array(
    z.object({
      status: z.string(),
      assertionResults: z.array(z.object({ status: z.string() })),
    }),
  ),
});

/**
 * Counts a report of vitest. A file that broke before it had tests counts as one failed test: nobody may read "0 failed" of a run
 * that could not load its tests.
 */
export function countReport(text: string): Totals {
  const { testResults } = report.parse(JSON.parse(text));
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const passed = tests.filter(({ status }) => status === 'passed').length;
  const failedTests = tests.filter(({ status }) => status === 'failed').length;
  const brokenFiles = testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.every((one) => one.status !== 'failed'),
  ).length;
  return { passed, failed: failedTests + brokenFiles, skipped: tests.length - passed - failedTests };
}

export const addTotals = (all: Totals[]): Totals => ({
  passed: all.reduce((sum, { passed }) => sum + passed, 0),
  failed: all.reduce((sum, { failed }) => sum + failed, 0),
  skipped: all.reduce((sum, { skipped }) => sum + skipped, 0),
});

/** The line that CI reads. */
export const totalsLine = ({ passed, failed, skipped }: Totals) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;
