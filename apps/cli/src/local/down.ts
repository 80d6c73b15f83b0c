import type { Command } from 'commander';
import type { Act } from '../app.js';
import { withSupervisor } from './installation.js';

/** `m2 down` */
export function downCommand(program: Command, act: Act): void {
  program
    .command('down')
    .description('stop M2 on this machine; what is stored stays')
    .action(
      act(async (app) => {
        await withSupervisor(app, 'M2 cannot be stopped', async ({ down }, state) => {
          app.note((await down({ state })) ? 'Everything is stopped.' : `Nothing ran on ${state}.`);
        });
      }),
    );
}
