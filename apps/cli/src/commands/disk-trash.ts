import type { Command } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { ApiError } from '../errors.js';
import { formatAge, formatBytes } from '../output/units.js';
import { follow } from '../watch.js';
import { diskCard } from './disk-card.js';
import { destructive, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface Params {
  project: string;
  disk: string;
}

/** `disk delete`, `trash`, `restore`. */
export function diskTrashCommands(disk: Command, act: Act): void {
  destructive(disk.command('delete <disk>'))
    .description('put a disk into the trash, where it can be restored from for a while')
    .option('--purge', 'remove it and its data at once and for good, also from the trash')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions & { purge?: boolean }, disk: string) => {
        const params = { project: await app.project(), disk };
        const look = options.purge ? lookForGood : lookAtTrashing;
        if (!(await mayDestroy(app, options, () => look(app, params)))) return;
        const query = { purge: options.purge ? 'true' : 'false' };
        const accepted = await app.call('diskDelete', { params, query });
        await follow(app, accepted, options);
        if (!options.purge && options.wait)
          app.note(`It is in the trash. Take it back: m2 disk restore ${accepted.about['disk'] ?? disk}`);
      }),
    );

  disk
    .command('trash')
    .description('the disks in the trash')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const params = { project: await app.project() };
        const page = await (await app.client()).list('diskList', { params, query: { trashed: 'true' } }, limit);
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'ID', 'SIZE', 'DELETED'],
            items.map(({ name, id, sizeBytes, trashedAt }) => [
              name,
              id,
              formatBytes(sizeBytes),
              trashedAt && formatAge(trashedAt),
            ]),
          ),
        );
      }),
    );

  disk
    .command('restore <deleted-disk>')
    .description('take a disk out of the trash')
    .option('--name <name>', 'under another name')
    .addOption(noWaitOption())
    .action(
      act(async (app, { name, wait }: WaitOptions & { name?: string }, disk: string) => {
        const params = { project: await app.project(), disk };
        const accepted = await app.call('diskRestore', { params, body: name === undefined ? {} : { name } });
        const restored = { ...params, disk: accepted.about['disk'] ?? name ?? disk };
        const made = async () => diskCard(app, await app.call('diskShow', { params: restored }));
        await follow(app, accepted, { wait, made });
      }),
    );
}

/** A disk and what holds it, for whoever is about to delete it for good. */
export async function lookForGood(app: App, params: Params): Promise<Doomed> {
  const { what, ...rest } = await look(app, params);
  return { what: `${what} and its data`, ...rest };
}

async function lookAtTrashing(app: App, params: Params): Promise<Doomed> {
  const { what, ...rest } = await look(app, params);
  return { verb: 'put', what: `${what} into the trash, where it can be restored from for a while`, ...rest };
}

async function look(app: App, params: Params): Promise<Doomed> {
  const object = await app.call('diskShow', { params }).catch(async (error: unknown) => {
    if (!(error instanceof ApiError) || error.code !== 'disk.not_found') throw error;
    const { items } = await (await app.client()).list('diskList', { params, query: { trashed: 'true' } });
    const trashed = items.find(({ name }) => name === params.disk);
    if (trashed) return trashed;
    throw error;
  });
  const usedBy = object.holder === null ? [] : [`provision ${object.holder}`];
  return { what: `disk ${object.name} (${formatBytes(object.sizeBytes)})`, object, usedBy };
}
