import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Act } from '../app.js';
import { usageError } from '../errors.js';
import { type Content, download } from '../transfer/download.js';
import { type DownloadOptions, downloadOptions, sayDownloaded } from './parts.js';

interface DiskDownloadOptions extends DownloadOptions {
  format: 'raw' | 'qcow2' | 'rbd-diff';
  tag?: string;
  since?: string;
}

/** `disk download`. */
export function diskTransferCommands(disk: Command, act: Act): void {
  downloadOptions(disk.command('download <disk> <file>'))
    .description('fetch a disk that no node uses, or a tag of any, into a file or to standard output (-)')
    .addOption(new Option('--tag <tag>', 'as the disk was then'))
    .addOption(new Option('--since <tag>', 'with --format rbd-diff: only what changed after that tag'))
    .addOption(
      new Option('--format <format>', 'what the file is to be').choices(['raw', 'qcow2', 'rbd-diff']).default('raw'),
    )
    .action(
      act(async (app, { tag, since, format, force }: DiskDownloadOptions, disk: string, file: string) => {
        if (since !== undefined && format !== 'rbd-diff') throw usageError('--since goes with --format rbd-diff');
        const params = { project: await app.project(), disk };
        const { id } = await app.call('diskShow', { params });
        const content: Content = {
          open: (client, options) =>
            client.download('diskContent', { params: { ...params, disk: id }, query: { format, tag, since } }, options),
          // A tag stands still; the disk itself may be written to between two tries.
          identity: format === 'raw' && tag !== undefined ? `disk ${id} tag ${tag}` : null,
        };
        const path = file === '-' ? file : resolve(app.world.cwd, file);
        sayDownloaded(app, await download(app, content, path, force ?? false));
      }),
    );
}
