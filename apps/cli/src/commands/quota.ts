import type { Quota } from '@m2/contracts';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Act, App } from '../app.js';
import { usageError } from '../errors.js';
import { formatBytes, parseSize } from '../output/units.js';
import { group } from './parts.js';

type Limit = number | 'none';
type SetOptions = { [What in 'bytes' | 'disks' | 'images']?: Limit };

/** `quota show`, `quota set`. */
export function quotaCommands(program: Command, act: Act): void {
  const quota = group(program, 'quota', 'what a project may store, and what it does store');

  quota
    .command('show')
    .description('the limits of the project, and what is used')
    .action(
      act(async (app) => {
        app.print(await app.call('quotaShow', { params: { project: await app.project() } }), table(app));
      }),
    );

  quota
    .command('set')
    .description('limit what the project may store; for operators')
    .addOption(
      new Option('--bytes <size>', 'of images and disks, also in the trash: 2T, or none').argParser(orNone(parseSize)),
    )
    .addOption(new Option('--disks <count>', 'this many, or none').argParser(orNone(parseNumber)))
    .addOption(new Option('--images <count>', 'this many, or none').argParser(orNone(parseNumber)))
    .action(
      act(async (app, options: SetOptions) => {
        const { bytes, disks, images } = options;
        if ([bytes, disks, images].every((limit) => limit === undefined))
          throw usageError('give --bytes, --disks or --images', 'See m2 quota set --help.');
        const params = { project: await app.project() };
        // All limits are set together: what is not named stays as it is.
        const { limits } = await app.call('quotaShow', { params });
        const body = {
          bytes: chosen(bytes, limits.bytes),
          disks: chosen(disks, limits.disks),
          images: chosen(images, limits.images),
        };
        app.print(await app.call('quotaSet', { params, body }), table(app));
      }),
    );
}

const orNone =
  (parse: (text: string) => number) =>
  (text: string): Limit =>
    text === 'none' ? text : parse(text);

const chosen = (limit: Limit | undefined, before: number | null) => {
  if (limit === undefined) return before;
  return limit === 'none' ? null : limit;
};

function parseNumber(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count))
    throw new InvalidArgumentError('Give a whole number, or none.');
  return count;
}

const table =
  (app: App) =>
  ({ limits, used }: Quota) =>
    app.table(
      ['WHAT', 'USED', 'LIMIT'],
      [
        ['bytes', formatBytes(used.bytes), limits.bytes === null ? 'none' : formatBytes(limits.bytes)],
        ['disks', used.disks, limits.disks ?? 'none'],
        ['images', used.images, limits.images ?? 'none'],
      ],
    );
