import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reportVariable } from './test-reporter.js';
import { summarize, testReport, type TestReport, type Tier, type TierSummary } from './test-report.js';
import { addTotals, type Totals } from './totals.js';
import { binPath } from './workspace.js';

export interface TestRun {
  /** The exit code of vitest; null when a signal ended it. */
  code: number | null;
  /** Undefined when vitest itself broke. */
  report: TestReport | undefined;
}

export interface RunOptions {
  /** Where the report goes, which stays there. */
  report: string;
  /** Only the tests that import one of these files, or are one of them. */
  related?: string[];
  /** Where vitest.config is; the workspace by default. */
  root?: string;
  output?: 'inherit' | 'ignore';
  /** More environment for the tests. */
  env?: Record<string, string>;
}

// Beside this file, compiled as it is.
const reporter = fileURLToPath(new URL(`./test-reporter${extname(import.meta.url)}`, import.meta.url));

/** Runs tiers of the tests with vitest, its output on ours. `workspace` is where vitest is installed. */
export async function runTests(
  workspace: string,
  tiers: Tier[],
  { report, related, root = workspace, output = 'inherit', env: more = {} }: RunOptions,
): Promise<TestRun> {
  await rm(report, { force: true });
  const args = [binPath(workspace, 'vitest'), ...(related ? ['related', '--run', '--passWithNoTests'] : ['run'])];
  args.push(...tiers.flatMap((tier) => ['--project', tier]));
  args.push('--reporter=default', `--reporter=${reporter}`, ...(related ?? []));
  const env = { ...process.env, ...more, [reportVariable]: report };
  const code = await finished(spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', output, output] }));
  const text = await readFile(report, 'utf8').catch(() => undefined);
  return { code, report: text === undefined ? undefined : testReport.parse(JSON.parse(text)) };
}

/**
 * Good when vitest said so of every run, and something of each tier really ran: an empty tier is a mistake, not a success, unless it
 * `mayBeEmpty`.
 */
export function judge(
  runs: TestRun[],
  tiers: Tier[],
  { mayBeEmpty = false } = {},
): { summaries: TierSummary[]; totals: Totals; good: boolean } {
  const files = runs.flatMap(({ report }) => report?.files ?? []);
  const summaries = tiers.map((tier) => summarize({ files }, tier));
  // Without a report vitest itself broke; that is one failure, and nothing else is known.
  const broken = runs.filter(({ report }) => !report).map(() => ({ passed: 0, failed: 1, skipped: 0 }));
  const totals = addTotals([...summaries, ...broken]);
  const ran = mayBeEmpty || summaries.every(({ passed }) => passed > 0);
  return { summaries, totals, good: ran && totals.failed === 0 && runs.every(({ code }) => code === 0) };
}

// Ctrl-C reaches the child by the terminal; we only must not die before it.
const stay = () => {};

/** Waits for a child, and lets it finish its cleaning up when we are asked to stop. */
async function finished(child: ChildProcess): Promise<number | null> {
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  process.on('SIGINT', stay);
  process.on('SIGTERM', pass);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return code;
  } finally {
    process.off('SIGINT', stay);
    process.off('SIGTERM', pass);
  }
}
