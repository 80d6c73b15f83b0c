import type { Status } from '@m2/supervisor';
import type { Command } from 'commander';
import type { Act } from '../app.js';
import { exitCodes } from '../exit-codes.js';
import { formatAge } from '../output/units.js';
import { Exit } from '../world.js';
import { withSupervisor } from './installation.js';

const isWell = ({ phase, children }: Status) => phase === 'ready' && children.every(({ state }) => state === 'ready');

/** `m2 status`: exits 0 only when every part is ready. */
export function statusCommand(program: Command, act: Act): void {
  program
    .command('status')
    .description('what runs of M2 on this machine')
    .action(
      act(async (app) => {
        const [found, state] = await withSupervisor(app, 'M2 cannot be asked', async ({ status }, state) => [
          await status({ state }),
          state,
        ]);
        if (!found) {
          if (app.json) app.print({ phase: 'stopped', children: [] }, String);
          app.note(`Nothing runs on ${state}.`);
          throw new Exit(exitCodes.unreachable);
        }
        app.print(found, ({ children }) =>
          app.table(
            ['PART', 'STATE', 'PID', 'PORT', 'RESTARTS', 'SINCE'],
            children.map(({ name, state, pid, port, restarts, since }) => {
              return [name, state, pid, port, restarts, since && formatAge(since)];
            }),
          ),
        );
        if (!isWell(found)) throw new Exit(exitCodes.failed);
      }),
    );
}
