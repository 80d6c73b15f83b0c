import type { Disk } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { usageError } from '../errors.js';
import { formatAge, formatBytes, parseSize } from '../output/units.js';
import { follow } from '../watch.js';
import { diskCard } from './disk-card.js';
import { diskTagCommands } from './disk-tag.js';
import { diskTransferCommands } from './disk-transfer.js';
import { diskTrashCommands } from './disk-trash.js';
import { group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface CreateOptions extends WaitOptions {
  image?: string;
  disk?: string;
  tag?: string;
  size?: number;
}

export function diskCommands(program: Command, act: Act): void {
  const disk = group(program, 'disk', 'disks: writable clones, which nodes boot from');

  disk
    .command('list')
    .description('the disks of the project')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const params = { project: await app.project() };
        const page = await (await app.client()).list('diskList', { params }, limit);
        const names = app.json ? new Map<string, string>() : await namesFor(app, params, page.items);
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'STATE', 'SIZE', 'FROM', 'HELD BY', 'CREATED'],
            items.map((one) => {
              const { name, state, sizeBytes, holder, createdAt } = one;
              const heldBy = holder && (names.get(holder) ?? holder);
              return [name, state, formatBytes(sizeBytes), originOf(one, names), heldBy, formatAge(createdAt)];
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
        await app.printCard(await app.call('diskShow', { params: { project: await app.project(), disk } }), diskCard);
      }),
    );

  disk
    .command('create <name>')
    .description('clone an image, a disk or a tag of one, and wait for it')
    .addOption(new Option('--image <image>', 'the image to clone').conflicts(['disk', 'tag']))
    .addOption(new Option('--disk <disk>', 'the disk to clone, also while a node uses it'))
    .addOption(new Option('--tag <tag>', 'with --disk: as the disk was then'))
    .addOption(new Option('--size <size>', 'larger than what it is cloned from: 20G').argParser(parseSize))
    .addOption(noWaitOption())
    .action(
      act(async (app, { image, disk, tag, size, wait }: CreateOptions, name: string) => {
        if ((image === undefined) === (disk === undefined)) throw usageError('give either --image or --disk');
        await clone(app, { name, image, disk, tag, sizeBytes: size }, wait);
      }),
    );

  disk
    .command('fork <disk> <name>')
    .description('clone a disk, also while a node uses it: the same as disk create --disk')
    .addOption(new Option('--tag <tag>', 'as the disk was then'))
    .addOption(noWaitOption())
    .action(
      act(async (app, { tag, wait }: WaitOptions & { tag?: string }, disk: string, name: string) => {
        await clone(app, { name, disk, tag }, wait);
      }),
    );

  disk
    .command('rename <disk> <name>')
    .description('give a disk another name')
    .addOption(noWaitOption())
    .action(act((app, options: WaitOptions, disk: string, name: string) => change(app, disk, { name }, options)));

  disk
    .command('resize')
    .description('make a disk larger that no node uses')
    .argument('<disk>', 'which')
    .argument('<size>', 'how large it is to be: 20G', parseSize)
    .addOption(noWaitOption())
    .action(
      act((app, options: WaitOptions, disk: string, sizeBytes: number) => change(app, disk, { sizeBytes }, options)),
    );

  disk
    .command('flatten <disk>')
    .description('make a disk independent of what it was cloned from, and wait for it')
    .addOption(noWaitOption())
    .action(
      act(async (app, { wait }: WaitOptions, disk: string) => {
        const params = { project: await app.project(), disk };
        const accepted = await app.call('diskFlatten', { params });
        const made = async () => diskCard(app, await app.call('diskShow', { params }));
        await follow(app, accepted, { wait, made });
      }),
    );

  diskTagCommands(disk, act);
  diskTransferCommands(disk, act);
  diskTrashCommands(disk, act);
}

async function clone(
  app: App,
  {
    tag,
    sizeBytes,
    image,
    disk,
    name,
  }: {
    name: string;
    image?: string | undefined;
    disk?: string | undefined;
    tag?: string | undefined;
    sizeBytes?: number | undefined;
  },
  wait: boolean,
): Promise<void> {
  const params = { project: await app.project() };
  const body = { name, image, disk, tag, sizeBytes };
  const made = async () => diskCard(app, await app.call('diskShow', { params: { ...params, disk: name } }));
  await follow(app, await app.call('diskCreate', { params, body }), { wait, made });
}

async function change(
  app: App,
  disk: string,
  body: { name?: string; sizeBytes?: number },
  { wait }: WaitOptions,
): Promise<void> {
  const params = { project: await app.project() };
  const accepted = await app.call('diskUpdate', { params: { ...params, disk }, body });
  const made = async () =>
    diskCard(app, await app.call('diskShow', { params: { ...params, disk: accepted.about['disk'] ?? disk } }));
  await follow(app, accepted, { wait, made });
}

/** By identifier: the names of the images and disks that these disks come from, and of the nodes whose provisions hold them. */
async function namesFor(app: App, params: { project: string }, disks: Disk[]): Promise<Map<string, string>> {
  const client = await app.client();
  const held = disks.some(({ holder }) => holder !== null);
  const [images, provisions] = await Promise.all([
    client.list('imageList', { params }),
    held ? client.list('provisionList', { params }) : { items: [] },
  ]);
  const nodes = provisions.items.map(({ id, nodeName }): [string, string] => [id, nodeName]);
  return new Map([...[...images.items, ...disks].map(({ id, name }): [string, string] => [id, name]), ...nodes]);
}

const originOf = ({ image, fork }: Disk, names: Map<string, string>) => {
  if (image !== null) return names.get(image) ?? image;
  return fork && `disk ${names.get(fork.disk) ?? fork.disk}`;
};
