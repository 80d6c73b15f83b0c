import type { Tag } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { ApiError } from '../errors.js';
import { formatAge, formatBytes } from '../output/units.js';
import { follow } from '../watch.js';
import { diskCard } from './disk-card.js';
import { imageCard } from './image-card.js';
import { destructive, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface Params {
  project: string;
  disk: string;
}

/** `disk tag`, `tags`, `untag`, `rollback`, `snapshot`. */
export function diskTagCommands(disk: Command, act: Act): void {
  disk
    .command('tag <disk> <name>')
    .description('keep a disk as it is at this moment, also while a node uses it')
    .addOption(noWaitOption())
    .action(
      act(async (app, { wait }: WaitOptions, disk: string, name: string) => {
        const params = { project: await app.project(), disk };
        const made = async () => tagTable(app, await tags(app, params));
        await follow(app, await app.call('diskTag', { params, body: { name } }), { wait, made });
      }),
    );

  disk
    .command('tags <disk>')
    .description('the tags of a disk')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions, disk: string) => {
        const params = { project: await app.project(), disk };
        app.print(await (await app.client()).list('diskTags', { params }, limit), ({ items }) => tagTable(app, items));
      }),
    );

  disk
    .command('untag <disk> <tag>')
    .description('forget a tag that nothing was made from')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: WaitOptions, disk: string, tag: string) => {
        const params = { project: await app.project(), disk, tag };
        await follow(app, await app.call('diskUntag', { params }), options);
      }),
    );

  destructive(disk.command('rollback <disk> <tag>'))
    .description('put a disk that no node uses back to what it was when it was tagged')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions, disk: string, tag: string) => {
        const params = { project: await app.project(), disk };
        if (!(await mayDestroy(app, options, () => look(app, params, tag)))) return;
        const made = async () => diskCard(app, await app.call('diskShow', { params }));
        const accepted = await app.call('diskRollback', { params, body: { tag } });
        await follow(app, accepted, { wait: options.wait, made });
      }),
    );

  disk
    .command('snapshot <disk> <name>')
    .description('make an independent image of a disk, also while a node uses it, and wait for it')
    .addOption(new Option('--tag <tag>', 'as the disk was then'))
    .addOption(noWaitOption())
    .action(
      act(async (app, { tag, wait }: WaitOptions & { tag?: string }, disk: string, name: string) => {
        const params = { project: await app.project() };
        const source = { kind: 'disk' as const, disk, ...(tag !== undefined && { tag }) };
        const made = async () => imageCard(app, await app.call('imageShow', { params: { ...params, image: name } }));
        await follow(app, await app.call('imageImport', { params, body: { name, source } }), { wait, made });
      }),
    );
}

const tags = async (app: App, params: Params) => (await (await app.client()).list('diskTags', { params })).items;

const tagTable = (app: App, items: Tag[]) =>
  app.table(
    ['NAME', 'SIZE', 'MADE', 'CREATED'],
    items.map(({ name, sizeBytes, automatic, createdAt }) => [
      name,
      formatBytes(sizeBytes),
      automatic ? 'for a fork' : 'by hand',
      formatAge(createdAt),
    ]),
  );

async function look(app: App, params: Params, tag: string): Promise<Doomed> {
  const object = await app.call('diskShow', { params });
  const found = (await tags(app, params)).find(({ name }) => name === tag);
  if (!found)
    throw new ApiError(404, {
      code: 'tag.not_found',
      title: 'The disk has no such tag',
      detail: `${object.name} has no tag ${tag}`,
      remedy: `List them with m2 disk tags ${object.name}.`,
    });
  return {
    verb: 'roll back',
    what: `disk ${object.name} to its tag ${tag} (${formatAge(found.createdAt)}) and lose what was written since`,
    object,
    usedBy: object.holder === null ? [] : [`provision ${object.holder}`],
  };
}
