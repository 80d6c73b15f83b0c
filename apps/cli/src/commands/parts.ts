import { type Command, Option } from 'commander';
import type { App } from '../app.js';
import { formatBytes, parseCount } from '../output/units.js';
import type { Downloaded } from '../transfer/download.js';

/** A command that stands for a noun and only holds its verbs. */
export const group = (program: Command, name: string, description: string): Command =>
  program.command(name).description(description).helpGroup('Commands:');

export interface ListOptions {
  limit?: number;
}
export const limitOption = () => new Option('--limit <count>', 'at most this many (all)').argParser(parseCount);

export interface WaitOptions {
  wait: boolean;
}
export const noWaitOption = () => new Option('--no-wait', 'return when the operation is accepted, and print its id');

/** `--yes` and `--dry-run`, for a command that destroys. */
export const destructive = (command: Command): Command =>
  command
    .addOption(new Option('-y, --yes', 'do not ask'))
    .addOption(new Option('--dry-run', 'say what would happen, and do nothing'));

export interface DownloadOptions {
  force?: boolean;
}
export const downloadOptions = (command: Command): Command =>
  command.addOption(new Option('--force', 'replace the file, if there is one'));

/** Standard output has the bytes themselves where they went there. */
export function sayDownloaded(app: App, downloaded: Downloaded): void {
  const { file, bytes, resumed } = downloaded;
  if (file !== '-') app.print(downloaded, () => `${file}\n`);
  app.note(`${formatBytes(bytes)}${resumed > 0 ? `, ${formatBytes(resumed)} of them from an earlier try` : ''}`);
}
