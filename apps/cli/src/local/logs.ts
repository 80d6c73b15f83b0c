import { type Command, Option } from 'commander';
import type { Act } from '../app.js';
import { clean } from '../output/style.js';
import { parseCount } from '../output/units.js';
import { untilInterrupt } from '../watch.js';
import { withSupervisor } from './installation.js';

interface LogFlags {
  follow?: boolean;
  lines: number;
}

/** `m2 logs [service]` */
export function logsCommand(program: Command, act: Act): void {
  program
    .command('logs [service]')
    .description('the logs of M2 on this machine: of one part (gateway, image, postgres …) or of all')
    .option('-f, --follow', 'what is logged from now on too, until Ctrl-C')
    .addOption(
      new Option('-n, --lines <count>', 'how many of the old lines of each').argParser(parseCount).default(100),
    )
    .action(
      act(async (app, { follow = false, lines }: LogFlags, service?: string) => {
        await untilInterrupt(app, '', (signal) =>
          withSupervisor(app, 'The logs cannot be read', async ({ logs }, state) => {
            for await (const one of logs(service, { state, follow, lines, signal })) {
              app.printLine(one, ({ name, line }) => `${service ? '' : `${app.style.cyan(name)} `}${clean(line)}\n`);
            }
          }),
        );
      }),
    );
}
