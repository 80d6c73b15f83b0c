import type { Command } from 'commander';
import type { Act } from '../app.js';
import { stopInstallation } from '../stage/installation.js';
import { withSupervisor } from './installation.js';

/** `m2 down` */
export function downCommand(program: Command, act: Act): void {
  program
    .command('down')
    .description('stop M2 on this machine; what is stored stays')
    .action(
      act(async (app) => {
        await withSupervisor(app, 'M2 cannot be stopped', async (_, state) => {
          app.note((await stopInstallation(state)) ? 'Everything is stopped.' : `Nothing ran on ${state}.`);
        });
      }),
    );
}
