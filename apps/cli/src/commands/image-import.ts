import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Operation } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import type { Call } from '../client.js';
import { ApiError, operationError, usageError } from '../errors.js';
import { localFile, upload } from '../transfer/upload.js';
import { follow, hasEnded, untilInterrupt } from '../watch.js';
import { imageCard } from './image-card.js';
import { addMetadataOptions, type MetadataOptions, metadataOf } from './image-metadata.js';
import { noWaitOption, type WaitOptions } from './parts.js';

interface ImportOptions extends WaitOptions, MetadataOptions {
  file?: string;
  url?: string;
  volume?: string;
  upload?: string;
  fromDisk?: string;
  tag?: string;
  format?: 'raw' | 'qcow2' | 'vmdk';
  sha256?: string;
}

type Source = NonNullable<Call<'imageImport'>['body']>['source'];
interface Params {
  project: string;
}

/** How long an upload waits for the service to have heard of the image. */
const patienceMs = 30_000;

/** `image import`, `image copy`. */
export function imageImportCommands(image: Command, act: Act): void {
  const sources = ['file', 'url', 'volume', 'upload', 'fromDisk'];
  const source = (flags: string, description: string) => {
    const option = new Option(flags, description);
    return option.conflicts(sources.filter((name) => name !== option.attributeName()));
  };
  addMetadataOptions(image.command('import <name>').description('make an image, and wait for it'))
    .addOption(source('--file <file>', 'of a file on the machine where M2 runs'))
    .addOption(source('--url <source>', 'of an http or https address'))
    .addOption(source('--upload <file>', 'of a file on this machine; run again, it goes on where it stopped'))
    .addOption(source('--volume <volume>', 'of a volume of the storage, or one of its snapshots: pool/volume@snapshot'))
    .addOption(source('--from-disk <disk>', 'of a disk, independent of it from then on'))
    .addOption(new Option('--tag <tag>', 'with --from-disk: as the disk was then'))
    .addOption(new Option('--format <format>', 'what it is (found out otherwise)').choices(['raw', 'qcow2', 'vmdk']))
    .addOption(new Option('--sha256 <digest>', 'what its SHA-256 must be'))
    .addOption(noWaitOption())
    .action(
      act(async (app, options: ImportOptions, name: string) => {
        const source = sourceOf(app, options);
        const { format, sha256 } = options;
        const params = { project: await app.project() };
        const metadata = metadataOf(options);
        const body = {
          name,
          source,
          ...(format && { format }),
          ...(sha256 && { sha256 }),
          ...(metadata && { metadata }),
        };
        const accepted =
          options.upload === undefined
            ? await app.call('imageImport', { params, body })
            : await importUpload(app, params, body, resolve(app.world.cwd, options.upload));
        await follow(app, accepted, { wait: options.wait, made: () => shown(app, params, name) });
      }),
    );

  image
    .command('copy <image> <name>')
    .description('copy an image, also from or to another project, and wait for it')
    .addOption(new Option('--from-project <project>', 'the image is there').conflicts('toProject'))
    .addOption(new Option('--to-project <project>', 'the copy goes there'))
    .addOption(noWaitOption())
    .action(
      act(
        async (
          app,
          { fromProject, toProject, wait }: WaitOptions & { fromProject?: string; toProject?: string },
          image: string,
          name: string,
        ) => {
          const here = await app.project();
          const params = { project: toProject ?? here };
          const from = fromProject ?? (toProject === undefined ? undefined : here);
          const source = { kind: 'image' as const, image, ...(from !== undefined && { project: from }) };
          const accepted = await app.call('imageImport', { params, body: { name, source } });
          await follow(app, accepted, { wait, made: () => shown(app, params, name) });
        },
      ),
    );
}

const shown = async (app: App, params: Params, image: string) =>
  imageCard(app, await app.call('imageShow', { params: { ...params, image } }));

function sourceOf(app: App, { file, url, volume, upload, fromDisk, tag }: ImportOptions): Source {
  if (tag !== undefined && fromDisk === undefined) throw usageError('--tag goes with --from-disk');
  if (file !== undefined) return { kind: 'file', path: resolve(app.world.cwd, file) };
  if (url !== undefined) return { kind: 'url', url };
  if (volume !== undefined) return { kind: 'volume', volume };
  if (upload !== undefined) return { kind: 'upload' };
  if (fromDisk !== undefined) return { kind: 'disk', disk: fromDisk, ...(tag !== undefined && { tag }) };
  throw usageError('give --file, --url, --upload, --volume or --from-disk', 'See m2 image import --help.');
}

/** Begins an import, or goes on with one of that name that still waits for its bytes; sends them, and returns the operation. */
async function importUpload(
  app: App,
  params: Params,
  body: NonNullable<Call<'imageImport'>['body']>,
  path: string,
): Promise<Operation> {
  // Read before anything is begun: a mistyped path leaves nothing behind.
  const file = await localFile(path);
  const waiting = await waitingImport(app, params, body.name);
  const operation = waiting ?? (await app.call('imageImport', { params, body }));
  const image = operation.about['image'];
  if (image === undefined) throw operationError(operation);
  const again = 'Run the same command again to go on';
  app.note(waiting ? `going on with the upload to ${body.name}` : `image ${image} waits for its bytes`);
  try {
    await untilInterrupt(app, `\n${again}, or give it up: m2 operation cancel ${operation.id}`, async (signal) => {
      if (!waiting) await begun(app, { ...params, image }, operation.id, signal);
      await upload(app, { ...params, image }, file, Boolean(waiting), signal);
    });
  } catch (error) {
    // The import may have ended under the upload; then it knows better why.
    const now =
      error instanceof ApiError ? await app.call('operationShow', { params: { id: operation.id } }) : operation;
    throw hasEnded(now) ? operationError(now) : error;
  }
  return operation;
}

/** The import of an image of this name that goes on, if there is one. */
async function waitingImport(app: App, { project }: Params, name: string): Promise<Operation | undefined> {
  const client = await app.client();
  const { items } = await client.list('imageList', { params: { project }, query: { own: 'true' } });
  const image = items.find((one) => one.name === name && one.state === 'importing');
  if (!image) return undefined;
  const query = { project, kind: 'image.import', state: 'running' };
  const operations = await client.list('operationList', { query });
  return operations.items.find(({ about }) => about['image'] === image.id);
}

/** Waits until the service has the image that the bytes are for. */
async function begun(app: App, params: Params & { image: string }, id: string, signal: AbortSignal): Promise<void> {
  for (const until = performance.now() + patienceMs; ; await pause(100, undefined, { signal })) {
    try {
      return void (await app.call('imageShow', { params }));
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'image.not_found' || performance.now() > until) throw error;
      const operation = await app.call('operationShow', { params: { id } });
      if (hasEnded(operation)) throw operationError(operation);
    }
  }
}
