import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import type { Call } from '../client.js';
import { usageError } from '../errors.js';
import { follow } from '../watch.js';
import { imageCard } from './image-card.js';
import { addMetadataOptions, type MetadataOptions, metadataOf } from './image-metadata.js';
import { noWaitOption, type WaitOptions } from './parts.js';

interface ShareOptions extends WaitOptions {
  with?: string[];
  public?: boolean;
  private?: boolean;
}

type Changes = NonNullable<Call<'imageUpdate'>['body']>;

/** `image rename`, `move`, `share`, `set`. */
export function imageChangeCommands(image: Command, act: Act): void {
  image
    .command('rename <image> <name>')
    .description('give an image another name')
    .addOption(noWaitOption())
    .action(act((app, options: WaitOptions, image: string, name: string) => change(app, image, { name }, options)));

  image
    .command('move <image> <project>')
    .description('give an image to another project; for operators')
    .addOption(noWaitOption())
    .action(
      act((app, options: WaitOptions, image: string, project: string) => change(app, image, { project }, options)),
    );

  image
    .command('share <image>')
    .description('let other projects use an image')
    .addOption(new Option('--with <project...>', 'these projects, and no others').conflicts(['public', 'private']))
    .addOption(new Option('--public', 'every project; for operators').conflicts('private'))
    .addOption(new Option('--private', 'no other project'))
    .addOption(noWaitOption())
    .action(act((app, options: ShareOptions, image: string) => change(app, image, sharing(options), options)));

  addMetadataOptions(image.command('set <image>').description('say what is in an image; an empty text takes it back'))
    .addOption(new Option('--no-user-data', 'it takes no user data'))
    .addOption(noWaitOption())
    .action(
      act(async (app, options: MetadataOptions & WaitOptions, image: string) => {
        const metadata = metadataOf(options);
        if (!metadata) throw usageError('nothing is said', 'See m2 image set --help.');
        await change(app, image, { metadata }, options);
      }),
    );
}

function sharing(options: ShareOptions): Changes {
  if (options.with) return { visibility: 'shared', sharedWith: options.with };
  if (options.public) return { visibility: 'public' };
  if (options.private) return { visibility: 'private', sharedWith: [] };
  throw usageError('give --with, --public or --private', 'See m2 image share --help.');
}

async function change(app: App, image: string, body: Changes, { wait }: WaitOptions): Promise<void> {
  const params = { project: await app.project() };
  const accepted = await app.call('imageUpdate', { params: { ...params, image }, body });
  const made = async () => {
    // Where it is now, and under which name, its identifier knows.
    const now = { project: body.project ?? params.project, image: accepted.about['image'] ?? image };
    return imageCard(app, await app.call('imageShow', { params: now }));
  };
  await follow(app, accepted, { wait, made });
}
