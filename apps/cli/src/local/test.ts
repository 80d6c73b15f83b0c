import { Argument, type Command } from 'commander';
import { join } from 'node:path';
import type { Act, App } from '../app.js';
import { exitCodes } from '../exit-codes.js';
import { usageError } from '../errors.js';
import { formatDuration, parseCount } from '../output/units.js';
import { testPackages } from '../stage/packages.js';
import { Exit } from '../world.js';
import { changedFiles, select } from './changed.js';
import { withSupervisor } from './installation.js';
import { judge, runTests, type TestRun } from './runner.js';
import { durationOf, parts, slowest, type TestReport, type Tier, tiers, type TierSummary } from './test-report.js';
import { totalsLine } from './totals.js';
import { workspaceRoot } from './workspace.js';

const reportDirectory = 'node_modules/.cache/m2-tests';
const slowestCount = 20;

interface TestOptions {
  /** True without a value. */
  changed?: string | true;
  seed?: number;
  minutes?: number;
}

/** `m2 test [unit|it|e2e|faults|chaos]`: the last line on standard output is the totals of all that ran. */
export function testCommand(program: Command, act: Act): void {
  program
    .command('test')
    .description('run the tests, or a part of them')
    .addArgument(new Argument('[part]', 'what to run (all but chaos)').choices(parts))
    .option(
      '--changed [ref]',
      'only what the changes since a commit or a branch can touch (HEAD: what is not committed)',
    )
    .option('--seed <number>', 'of chaos: which plan of requests and faults', parseCount)
    .option('--minutes <number>', 'of chaos: how long the plan lasts', parseCount)
    .action(
      act<TestOptions, [Tier?]>(async (app, { changed, seed, minutes }, part) => {
        if (part !== 'chaos' && (seed ?? minutes) !== undefined)
          throw usageError('--seed and --minutes are of chaos', 'Run: m2 test chaos --seed N --minutes M');
        const root = workspaceRoot();
        const wanted = part ? [part] : [...tiers];
        const ref = changed === true ? 'HEAD' : changed;
        const plan = ref === undefined ? [{ tiers: wanted }] : planFor(app, await changedFiles(root, ref), wanted);
        // Unit tests need Node.js and npm's packages only; all others run real parts.
        if (plan.some(({ tiers }) => tiers.some((tier) => tier !== 'unit')))
          await withSupervisor(app, 'The tests cannot run', ({ ensurePackages }) =>
            ensurePackages(testPackages, (line) => app.note(line)),
          );
        const runs: TestRun[] = [];
        for (const [n, { tiers, related }] of plan.entries()) {
          const report = join(root, reportDirectory, n === 0 ? 'report.json' : `report-${n + 1}.json`);
          const env = chaosEnvironment({ seed, minutes });
          runs.push(await runTests(root, tiers, { report, env, ...(related && { related }) }));
        }
        const { summaries, totals, good } = judge(
          runs,
          plan.flatMap(({ tiers }) => tiers),
          { mayBeEmpty: ref !== undefined },
        );
        const files = runs.flatMap(({ report }) => report?.files ?? []);
        if (files.length > 0) app.data(timesOf(app, { files }, summaries));
        app.data(`${totalsLine(totals)}\n`);
        if (!good) throw new Exit(exitCodes.failed);
      }),
    );
}

/** What faults/src/chaos.faults.ts reads. */
const chaosEnvironment = ({ seed, minutes }: TestOptions): Record<string, string> => ({
  ...(seed !== undefined && { M2_CHAOS_SEED: String(seed) }),
  ...(minutes !== undefined && { M2_CHAOS_MINUTES: String(minutes) }),
});

interface Part {
  tiers: Tier[];
  related?: string[];
}

/** Says what is run and what is left out, and why. */
function planFor(app: App, changed: string[], wanted: Tier[]): Part[] {
  const related: Part = { tiers: [], related: [] };
  const whole: Part = { tiers: [] };
  for (const tier of wanted) {
    const selection = select(changed, tier);
    if (selection.run === 'nothing') app.note(`${tier}: left out: ${selection.why}`);
    if (selection.run === 'all') {
      app.note(`${tier}: all of it: ${selection.why}`);
      whole.tiers.push(tier);
    }
    if (selection.run === 'related') {
      app.note(`${tier}: what depends on ${changed.length} changed files`);
      related.tiers.push(tier);
      related.related = selection.files;
    }
  }
  return [related, whole].filter(({ tiers }) => tiers.length > 0);
}

function timesOf(app: App, report: TestReport, summaries: TierSummary[]): string {
  const files = slowest(report, slowestCount).map((file) => [file.tier, file.file, formatDuration(durationOf(file))]);
  const rows = summaries.map(({ tier, files, passed, failed, skipped, seconds, fileSeconds }) => [
    tier,
    String(files),
    String(passed),
    String(failed),
    String(skipped),
    formatDuration(seconds * 1000),
    formatDuration(fileSeconds * 1000),
  ]);
  return [
    '',
    `The ${files.length} slowest files:`,
    app.table(['TIER', 'FILE', 'TOOK'], files),
    app.table(['TIER', 'FILES', 'PASSED', 'FAILED', 'SKIPPED', 'TOOK', 'ADDED UP'], rows),
    `All files and times: ${reportDirectory}/report.json`,
    '',
  ].join('\n');
}
