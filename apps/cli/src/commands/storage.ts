import type { Command } from 'commander';
import type { Act } from '../app.js';
import { percent } from '../output/progress.js';
import { group, limitOption, type ListOptions } from './parts.js';

/** `storage freeing`. */
export function storageCommands(program: Command, act: Act): void {
  group(program, 'storage', 'what the storage does in the background; for operators')
    .command('freeing')
    .description('removed volumes whose space is not free yet, and how far that is')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const page = await (await app.client()).list('storageFreeing', {}, limit);
        app.print(page, ({ items }) =>
          app.table(
            ['VOLUME', 'ID', 'PROJECT', 'FREED'],
            items.map(({ volume, id, project, progress }) => [
              volume,
              id,
              project,
              progress ? `${percent(progress.done, progress.total ?? 1)}%` : 'waits',
            ]),
          ),
        );
      }),
    );
}
