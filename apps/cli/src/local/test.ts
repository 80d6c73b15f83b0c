import { Argument, type Command } from 'commander';
import type { Act } from '../app.js';
import { exitCodes } from '../exit-codes.js';
import { testPackages } from '../stage/packages.js';
import { Exit } from '../world.js';
import { withSupervisor } from './installation.js';
import { judge, runTier, type Tier, type TierResult, tiers } from './runner.js';
import { totalsLine } from './totals.js';
import { workspaceRoot } from './workspace.js';

/** `m2 test [unit|it|e2e|faults]`: the last line on standard output is the totals of all that ran. */
export function testCommand(program: Command, act: Act): void {
  program
    .command('test')
    .description('run the tests, or a part of them')
    .addArgument(new Argument('[part]', 'what to run (all)').choices(tiers))
    .action(
      act(async (app, _options, part?: Tier) => {
        const root = workspaceRoot();
        const wanted = part ? [part] : tiers;
        // Unit tests need Node.js and npm's packages only; all others run real parts.
        if (wanted.some((tier) => tier !== 'unit'))
          await withSupervisor(app, 'The tests cannot run', ({ ensurePackages }) =>
            ensurePackages(testPackages, (line) => app.note(line)),
          );
        const results: TierResult[] = [];
        // One after the other: tests with real parts measure deadlines, and two cores are not many.
        for (const tier of wanted) results.push(await runTier(root, tier));
        const { totals, good } = judge(results);
        app.data(`${totalsLine(totals)}\n`);
        if (!good) throw new Exit(exitCodes.failed);
      }),
    );
}
