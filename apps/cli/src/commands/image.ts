import type { Lineage } from '@m2/contracts';
import type { Command } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { drawTree } from '../output/tree.js';
import { formatAge, formatBytes } from '../output/units.js';
import { follow } from '../watch.js';
import { imageCard, sizeOf } from './image-card.js';
import { imageChangeCommands } from './image-change.js';
import { imageImportCommands } from './image-import.js';
import { imageTransferCommands } from './image-transfer.js';
import { destructive, group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

export function imageCommands(program: Command, act: Act): void {
  const image = group(program, 'image', 'images: golden masters that disks are cloned from');

  image
    .command('list')
    .description('the images that the project may use')
    .option('--own', 'only those of the project itself')
    .addOption(limitOption())
    .action(
      act(async (app, { own, limit }: ListOptions & { own?: boolean }) => {
        const params = { project: await app.project() };
        const query = { own: own ? 'true' : 'false' };
        const page = await (await app.client()).list('imageList', { params, query }, limit);
        const projects = app.json ? new Map<string, string>() : await app.projectNames();
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'STATE', 'FORMAT', 'SIZE', 'FOR', 'PROJECT', 'CREATED'],
            items.map((one) => [
              one.name,
              one.state,
              one.format,
              sizeOf(one),
              one.visibility,
              projects.get(one.project) ?? one.project,
              formatAge(one.createdAt),
            ]),
          ),
        );
      }),
    );

  image
    .command('show <image>')
    .description('one image')
    .action(
      act(async (app, _options, image: string) => {
        await app.printCard(
          await app.call('imageShow', { params: { project: await app.project(), image } }),
          imageCard,
        );
      }),
    );

  image
    .command('tree <image>')
    .description('what an image came from, and what was made from it')
    .action(
      act(async (app, _options, image: string) => {
        app.print(await app.call('imageTree', { params: { project: await app.project(), image } }), ({ items }) =>
          drawTree(items, label),
        );
      }),
    );

  imageImportCommands(image, act);
  imageChangeCommands(image, act);
  imageTransferCommands(image, act);

  destructive(image.command('delete <image>').description('delete an image that no disk depends on'))
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions, image: string) => {
        const params = { project: await app.project(), image };
        if (!(await mayDestroy(app, options, () => look(app, params)))) return;
        await follow(app, await app.call('imageDelete', { params }), options);
      }),
    );
}

const label = ({ kind, name, sizeBytes, state }: Lineage[number]) =>
  `${kind} ${name}${sizeBytes === null ? '' : `, ${formatBytes(sizeBytes)}`}${state === 'ready' ? '' : `, ${state}`}`;

async function look(app: App, params: { project: string; image: string }): Promise<Doomed> {
  const client = await app.client();
  const object = await app.call('imageShow', { params });
  const { project } = params;
  const [disks, trash] = await Promise.all([
    client.list('diskList', { params: { project } }),
    client.list('diskList', { params: { project }, query: { trashed: 'true' } }),
  ]);
  const of = (items: typeof disks.items) => items.filter(({ image }) => image === object.id);
  const usedBy = [
    ...of(disks.items).map(({ name }) => `disk ${name}`),
    ...of(trash.items).map(({ name, id }) => `disk ${name} in the trash (${id})`),
  ];
  return { what: `image ${object.name}`, object, usedBy };
}
