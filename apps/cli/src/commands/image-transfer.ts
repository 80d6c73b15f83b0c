import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Act } from '../app.js';
import { type Content, download } from '../transfer/download.js';
import { follow } from '../watch.js';
import { type DownloadOptions, downloadOptions, noWaitOption, sayDownloaded, type WaitOptions } from './parts.js';

/** `image download`, `image export`. */
export function imageTransferCommands(image: Command, act: Act): void {
  downloadOptions(image.command('download <image> <file>'))
    .description('fetch an image into a file, or to standard output (-); run again, a raw one goes on where it stopped')
    .addOption(new Option('--format <format>', 'what the file is to be').choices(['raw', 'qcow2']).default('raw'))
    .action(
      act(
        async (app, { format, force }: DownloadOptions & { format: 'raw' | 'qcow2' }, image: string, file: string) => {
          const params = { project: await app.project(), image };
          const { id } = await app.call('imageShow', { params });
          const content: Content = {
            open: (client, options) =>
              client.download('imageContent', { params: { ...params, image: id }, query: { format } }, options),
            // A golden image never changes; how it is packed may.
            identity: format === 'raw' ? `image ${id}` : null,
          };
          const path = file === '-' ? file : resolve(app.world.cwd, file);
          sayDownloaded(app, await download(app, content, path, force ?? false));
        },
      ),
    );

  image
    .command('export <image> <volume>')
    .description('write an image to a flat volume of the storage, which M2 does not own from then on')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: WaitOptions, image: string, volume: string) => {
        const params = { project: await app.project(), image };
        await follow(app, await app.call('imageExport', { params, body: { volume } }), options);
      }),
    );
}
