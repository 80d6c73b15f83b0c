import type { Disk } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { formatAge, formatBytes, parseSize } from '../output/units.js';
import { follow } from '../watch.js';
import { destructive, group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface CreateOptions extends WaitOptions {
  image: string;
  size?: number;
}

export function diskCommands(program: Command, act: Act): void {
  const disk = group(program, 'disk', 'disks: writable clones of images, which nodes boot from');

  disk
    .command('list')
    .description('the disks of the project')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const params = { project: await app.project() };
        const page = await (await app.client()).list('diskList', { params }, limit);
        const images = app.json ? new Map<string, string>() : await imageNames(app, params);
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'STATE', 'SIZE', 'IMAGE', 'HELD BY', 'CREATED'],
            items.map(({ name, state, sizeBytes, image, holder, createdAt }) => {
              return [name, state, formatBytes(sizeBytes), images.get(image) ?? image, holder, formatAge(createdAt)];
            }),
          ),
        );
      }),
    );

  disk
    .command('show <disk>')
    .description('one disk')
    .action(
      act(async (app, _options, disk: string) => {
        app.print(await app.call('diskShow', { params: { project: await app.project(), disk } }), card(app));
      }),
    );

  disk
    .command('create <name>')
    .description('clone an image, and wait for it')
    .requiredOption('--image <image>', 'the image to clone')
    .addOption(new Option('--size <size>', 'larger than the image: 20G').argParser(parseSize))
    .addOption(noWaitOption())
    .action(
      act(async (app, { image, size, wait }: CreateOptions, name: string) => {
        const params = { project: await app.project() };
        const body = { name, image, ...(size !== undefined && { sizeBytes: size }) };
        const made = async () => card(app)(await app.call('diskShow', { params: { ...params, disk: name } }));
        await follow(app, await app.call('diskCreate', { params, body }), { wait, made });
      }),
    );

  destructive(disk.command('delete <disk>').description('delete a disk and its data'))
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions, disk: string) => {
        const params = { project: await app.project(), disk };
        if (!(await mayDestroy(app, options, () => look(app, params)))) return;
        await follow(app, await app.call('diskDelete', { params }), options);
      }),
    );
}

async function imageNames(app: App, params: { project: string }): Promise<Map<string, string>> {
  const { items } = await (await app.client()).list('imageList', { params });
  return new Map(items.map(({ id, name }) => [id, name]));
}

const card = (app: App) => (disk: Disk) =>
  app.card({
    name: disk.name,
    id: disk.id,
    state: disk.state,
    size: formatBytes(disk.sizeBytes),
    image: disk.image,
    volume: disk.volume,
    'held by': disk.holder,
    created: disk.createdAt,
  });

/** A disk and what holds it, for whoever is about to delete it. */
export async function look(app: App, params: { project: string; disk: string }): Promise<Doomed> {
  const object = await app.call('diskShow', { params });
  const usedBy = object.holder === null ? [] : [`provision ${object.holder}`];
  return { what: `disk ${object.name} (${formatBytes(object.sizeBytes)}) and its data`, object, usedBy };
}
