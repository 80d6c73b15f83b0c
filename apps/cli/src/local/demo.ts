import { labPackages } from '@m2/lab';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type DemoOptions, type DemoResult, type DemoView, runDemo } from '../demo/demo.js';
import { Exit } from '../world.js';
import { exitCodes } from '../exit-codes.js';
import { stepView } from '../output/steps.js';
import { styleOf } from '../output/style.js';
import { formatDuration, parseCount } from '../output/units.js';
import { closeStage, type Stage } from '../stage/stage.js';
import { withSupervisor } from './installation.js';
import { untilInterrupt } from '../watch.js';

type Flags = DemoOptions & { remove?: string };

/** `m2 demo`: the main job from nothing to a booted node and back, on this machine. */
export function demoCommand(program: Command, act: Act): void {
  program
    .command('demo')
    .description('boot a node from a network disk on this machine, from nothing, and show each step')
    .addOption(new Option('--nodes <n>', 'how many nodes').argParser(parseCount).default(1))
    .addOption(
      new Option('--network <kind>', "user: QEMU's own; netns: a network with DHCP by M2 (root)")
        .choices(['user', 'netns'])
        .default('user'),
    )
    .addOption(
      new Option('--storage <kind>', "where the node's disk is: a file, or a clone in a Ceph cluster on this machine")
        .choices(['file', 'ceph'])
        .default('file'),
    )
    .option('--keep', 'leave it running, and say how to reach it', false)
    .option('--remove <dir>', 'take down what --keep left')
    .action(
      act(async (app, { remove, ...flags }: Flags) => {
        if (remove) return takeDown(app, remove);
        const result = await withSupervisor(app, 'The demo cannot run', async ({ ensurePackages, servicePackages }) => {
          await ensurePackages([...servicePackages, ...labPackages], (line) => app.note(line));
          return demo(app, flags);
        });
        app.print(result, (shown) => summary(app, shown));
        if (!result.booted || !result.diskKept) throw new Exit(exitCodes.failed);
      }),
    );
}

async function takeDown(app: App, dir: string): Promise<void> {
  const path = resolve(app.world.cwd, dir);
  const wasThere = existsSync(path);
  await closeStage(path);
  app.note(wasThere ? `${path} is taken down and removed.` : `There is no ${path}: nothing was taken down.`);
}

async function demo(app: App, flags: DemoOptions): Promise<DemoResult> {
  let stage: Stage | undefined;
  return untilInterrupt(app, '', async (signal) => {
    // Ctrl-C: closing the stage also ends a wait for a node.
    const interrupted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    const work = runDemo({ ...flags, signal }, viewOf(app), (started) => (stage = started));
    try {
      return await Promise.race([work, interrupted]);
    } catch (error) {
      if (signal.aborted) {
        app.note('Cleaning up…');
        // A start that is under way cleans up after itself; later there is a stage to take down.
        if (stage) await stage.close();
        else await work.catch(() => {});
      }
      throw error;
    } finally {
      if (flags.keep && stage && !signal.aborted) app.note(howToReach(stage));
    }
  });
}

function viewOf(app: App): DemoView {
  const { stderr, env } = app.world;
  let view: ReturnType<typeof stepView> | undefined;
  return {
    note: (line) => app.note(line),
    operation: (operation) => (view ??= stepView(stderr, styleOf(stderr, env), env)).update(operation),
    operationEnded: () => {
      view?.end();
      view = undefined;
    },
  };
}

export const howToReach = ({ state, running, lab, dir, project }: Stage) =>
  [
    `The API is at ${running.url}; the admin token is in ${running.adminTokenFile}.`,
    `Look around:   ./m2 --state ${state} node list`,
    `               ./m2 --state ${state} --project ${project} image list`,
    `Consoles:      ${lab.nodes.map(({ serialLog }) => serialLog).join(' ')}`,
    `Take it down:  ./m2 demo --remove ${dir}`,
  ].join('\n');

function summary(app: App, { booted, diskKept, phases, nodes }: DemoResult): string {
  const total = phases.reduce((sum, { seconds }) => sum + seconds, 0);
  const rows = [...phases, { name: 'total', seconds: total }].map(({ name, seconds }) => [
    name,
    formatDuration(seconds * 1000),
  ]);
  const lines = nodes.map(
    ({ name, boots, root, kernel }) =>
      `${name}: root ${root} over iSCSI, Linux ${kernel}, boots on this disk: ${boots}\n`,
  );
  const verdict = `booted: ${booted ? 'yes' : 'no'}; the disk was kept: ${diskKept ? 'yes' : 'no'}\n`;
  return `${app.table(['PHASE', 'TIME'], rows)}${lines.join('')}${verdict}`;
}
