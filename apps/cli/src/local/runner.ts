import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addTotals, countReport, type Totals } from './totals.js';
import { binPath } from './workspace.js';

export const tiers = ['unit', 'it', 'e2e', 'faults'] as const;
export type Tier = (typeof tiers)[number];

export interface TierResult {
  /** The exit code of the runner; null when a signal ended it. */
  code: number | null;
  totals: Totals;
}

/**
 * Runs one tier of the tests with vitest, its output on ours, and counts what ran. `root` is where the configuration is, `workspace`
 * where vitest is.
 */
export async function runTier(
  workspace: string,
  tier: Tier,
  root = workspace,
  output: 'inherit' | 'ignore' = 'inherit',
): Promise<TierResult> {
  const directory = await mkdtemp(join(tmpdir(), 'm2-test-'));
  const report = join(directory, 'report.json');
  try {
    const args = [binPath(workspace, 'vitest'), 'run', '--project', tier, '--reporter=default', '--reporter=json'];
    args.push(`--outputFile.json=${report}`);
    const code = await finished(spawn(process.execPath, args, { cwd: root, stdio: ['ignore', output, output] }));
    // Without a report the runner itself broke; that is one failure, and nothing else is known.
    const text = await readFile(report, 'utf8').catch(() => undefined);
    return { code, totals: text === undefined ? { passed: 0, failed: 1, skipped: 0 } : countReport(text) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A run is good when every runner said so, and every runner really ran something: an empty tier is a mistake, not a success. */
export function judge(results: TierResult[]): { totals: Totals; good: boolean } {
  const good = results.every(({ code, totals }) => code === 0 && totals.failed === 0 && totals.passed > 0);
  return { totals: addTotals(results.map(({ totals }) => totals)), good };
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
