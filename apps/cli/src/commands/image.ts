import { resolve } from 'node:path';
import type { Image } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { usageError } from '../errors.js';
import { formatAge, formatBytes } from '../output/units.js';
import { follow } from '../watch.js';
import { destructive, group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface ImportOptions extends WaitOptions {
  file?: string;
  url?: string;
  format?: 'raw' | 'qcow2';
  sha256?: string;
}

export function imageCommands(program: Command, act: Act): void {
  const image = group(program, 'image', 'images: golden masters that disks are cloned from');

  image
    .command('list')
    .description('the images of the project')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const params = { project: await app.project() };
        app.print(await (await app.client()).list('imageList', { params }, limit), ({ items }) =>
          app.table(
            ['NAME', 'STATE', 'FORMAT', 'SIZE', 'CREATED'],
            items.map((one) => [one.name, one.state, one.format, size(one), formatAge(one.createdAt)]),
          ),
        );
      }),
    );

  image
    .command('show <image>')
    .description('one image')
    .action(
      act(async (app, _options, image: string) => {
        app.print(await app.call('imageShow', { params: { project: await app.project(), image } }), card(app));
      }),
    );

  image
    .command('import <name>')
    .description('import an image, and wait for it')
    .addOption(new Option('--file <file>', 'a file on the machine where M2 runs').conflicts('url'))
    .addOption(new Option('--url <source>', 'an http or https address'))
    .addOption(new Option('--format <format>', 'what it is (found out otherwise)').choices(['raw', 'qcow2']))
    .addOption(new Option('--sha256 <digest>', 'what its SHA-256 must be'))
    .addOption(noWaitOption())
    .action(
      act(async (app, { file, url, format, sha256, wait }: ImportOptions, name: string) => {
        if (file === undefined && url === undefined)
          throw usageError('give --file or --url', 'See m2 image import --help.');
        const source =
          file === undefined
            ? { kind: 'url' as const, url: url as string }
            : { kind: 'file' as const, path: resolve(app.world.cwd, file) };
        const params = { project: await app.project() };
        const body = { name, source, ...(format && { format }), ...(sha256 && { sha256 }) };
        const made = async () => card(app)(await app.call('imageShow', { params: { ...params, image: name } }));
        await follow(app, await app.call('imageImport', { params, body }), { wait, made });
      }),
    );

  destructive(image.command('delete <image>').description('delete an image that no disk was cloned from'))
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions, image: string) => {
        const params = { project: await app.project(), image };
        if (!(await mayDestroy(app, options, () => look(app, params)))) return;
        await follow(app, await app.call('imageDelete', { params }), options);
      }),
    );
}

const size = ({ sizeBytes, progress }: Image) => {
  if (sizeBytes !== null) return formatBytes(sizeBytes);
  return progress ? `${formatBytes(progress.done)} so far` : null;
};

const card = (app: App) => (image: Image) =>
  app.card({
    name: image.name,
    id: image.id,
    state: image.state,
    format: image.format,
    size: size(image),
    sha256: image.sha256,
    created: image.createdAt,
    ...(image.error && { error: `${image.error.detail} (${image.error.code})` }),
  });

async function look(app: App, params: { project: string; image: string }): Promise<Doomed> {
  const object = await app.call('imageShow', { params });
  const { items } = await (await app.client()).list('diskList', { params: { project: params.project } });
  const usedBy = items.filter(({ image }) => image === object.id).map(({ name }) => `disk ${name}`);
  return { what: `image ${object.name}`, object, usedBy };
}
