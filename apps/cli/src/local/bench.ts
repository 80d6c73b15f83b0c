import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { usageError } from '../errors.js';
import { Exit } from '../world.js';
import { exitCodes } from '../exit-codes.js';
import { repeatable } from '../options.js';
import { parseCount } from '../output/units.js';
import { workspaceRoot } from './workspace.js';

/** `m2 bench`: measures the control plane against the bare operations on this machine. */
export function benchCommand(program: Command, act: Act): void {
  const bench = program
    .command('bench')
    .description('measure M2 on this machine, on parts that are real but for the nodes');
  bench
    .command('provision')
    .description("the control plane's time per provision, from the request to power on")
    .addOption(
      repeatable(new Option('--nodes <n>', 'how many at once (repeatable; 1, 8, 24, 100 and 300)'), parseCount),
    )
    .addOption(
      new Option('--bmc <kind>', 'what simulates the BMCs: a process for each node, or a cheap one for all')
        .choices(['ipmi_sim', 'responder'])
        .default('ipmi_sim'),
    )
    .option('--full', 'also with 10,000 disks, 1,000 exports and 300,000 operations there; takes --bmc responder')
    .option('--costs', 'count statements, commits and messages too, when the times are taken')
    .action(
      act(
        (app, { nodes = [], bmc, full, costs }: { nodes?: number[]; bmc: string; full?: boolean; costs?: boolean }) => {
          if (full && bmc !== 'responder')
            throw usageError('--full has a thousand more nodes, too many for --bmc ipmi_sim', 'Add --bmc responder.');
          return measure(app, 'provision', [
            ...nodes.flatMap((count) => ['--nodes', String(count)]),
            '--bmc',
            bmc,
            ...(full ? ['--full'] : []),
            ...(costs ? ['--costs'] : []),
          ]);
        },
      ),
    );
  bench
    .command('images')
    .description('what image operations cost on a small Ceph cluster, beside librbd and the rbd command')
    .action(act((app) => measure(app, 'images')));
  bench
    .command('calls')
    .description('processor time per message between services, beside NATS alone')
    .action(act((app) => measure(app, 'calls')));
}

async function measure(app: App, what: 'provision' | 'images' | 'calls', flags: string[] = []): Promise<void> {
  const program = join(workspaceRoot(), 'bench/dist', `${what}.js`);
  const child = spawn(process.execPath, [program, ...flags, ...(app.json ? ['--json'] : [])], {
    stdio: 'inherit',
    // librbd's calls wait in libuv's threads; the bare ones are made in that process.
    env: { ...process.env, UV_THREADPOOL_SIZE: '32' },
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Exit(exitCodes.failed);
}
