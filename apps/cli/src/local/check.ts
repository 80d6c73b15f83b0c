import { execFile } from 'node:child_process';
import type { Command } from 'commander';
import type { Act } from '../app.js';
import { exitCodes } from '../exit-codes.js';
import { formatDuration } from '../output/units.js';
import { Exit } from '../world.js';
import { type Bin, binPath, workspaceRoot } from './workspace.js';

interface Check {
  name: string;
  bin: Bin;
  args: string[];
}

type Program = Omit<Check, 'bin'> & { program: string };

interface CheckResult {
  name: string;
  ok: boolean;
  milliseconds: number;
  output: string;
}

const folders = ['libs', 'services', 'apps', 'lab', 'e2e', 'faults', 'bench'];

/** The longest first, so that two of them at a time end together. */
const checks: Check[] = [
  { name: 'types', bin: 'tsc', args: ['-b'] },
  { name: 'unit tests', bin: 'vitest', args: ['run', '--project', 'unit'] },
  {
    name: 'format',
    bin: 'prettier',
    args: ['--check', '--cache', '--cache-location', 'node_modules/.cache/m2-prettier', '--log-level', 'warn', '.'],
  },
  {
    name: 'boundaries',
    bin: 'depcruise',
    args: ['--config', '.dependency-cruiser.cjs', '--output-type', 'err-long', ...folders],
  },
  { name: 'lint', bin: 'oxlint', args: ['--deny-warnings'] },
];

/** `m2 check`: the one command before a commit. */
export function checkCommand(program: Command, act: Act): void {
  program
    .command('check')
    .description('format, lint, types, boundaries, unit tests: the one command before a commit')
    .action(
      act(async (app) => {
        const root = workspaceRoot();
        // Looked for before anything starts: what is missing then interrupts nothing.
        const programs = checks.map(({ bin, ...check }) => ({ ...check, program: binPath(root, bin) }));
        const results = await runAll(programs, 2, async (check) => {
          const result = await runCheck(root, check);
          app.note(`${result.ok ? '✔' : '✖'} ${check.name} ${formatDuration(result.milliseconds)}`);
          return result;
        });
        for (const { name, ok, output } of results) if (!ok) app.note(`\n--- ${name} ---\n${output.trimEnd()}\n`);
        app.print(
          results.map(({ name, ok, milliseconds }) => ({ name, ok, milliseconds })),
          (rows) =>
            app.table(
              ['CHECK', 'STATE', 'TOOK'],
              rows.map(({ name, ok, milliseconds }) => [name, ok ? 'done' : 'failed', formatDuration(milliseconds)]),
            ),
        );
        if (results.some(({ ok }) => !ok)) throw new Exit(exitCodes.failed);
      }),
    );
}

/** Runs `work` on all items, `width` at a time, and keeps their order. */
export async function runAll<Item, Result>(
  items: Item[],
  width: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const queue = items.entries();
  const lane = async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
}

const maxOutput = 64 * 1024 * 1024;

function runCheck(root: string, { name, program, args }: Program): Promise<CheckResult> {
  const started = performance.now();
  return new Promise((resolve) => {
    const options = { cwd: root, maxBuffer: maxOutput, env: { ...process.env, NO_COLOR: '1' } };
    execFile(process.execPath, [program, ...args], options, (error, stdout, stderr) => {
      resolve({ name, ok: error === null, milliseconds: performance.now() - started, output: `${stdout}${stderr}` });
    });
  });
}
