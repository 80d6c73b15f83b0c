import type { Provision } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { mayDestroy, type DestroyOptions } from '../destroy.js';
import { ApiError, usageError } from '../errors.js';
import { formatAge } from '../output/units.js';
import { follow } from '../watch.js';
import { lookForGood as lookAtDisk } from './disk-trash.js';
import { imageName } from './names.js';
import { destructive, group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface ProvisionOptions {
  image?: string;
  disk?: string;
  diskName?: string;
  nic?: string;
  network?: string;
  wait: 'ready' | 'booted' | 'none';
}

/** `provision NODE`, `provision list|show`, `deprovision`. */
export function provisionCommands(program: Command, act: Act): void {
  const provision = group(program, 'provision', 'boot a node from a clone of an image, or from a disk that waits')
    .usage('<node> (--image <image> | --disk <disk>) [options]\n       m2 provision list | show [options]')
    .argument('<node>', 'the node to boot')
    .addOption(new Option('--image <image>', 'clone this image').conflicts('disk'))
    .option('--disk <disk>', 'boot from this disk')
    .addOption(new Option('--disk-name <name>', 'what to call the clone').conflicts('disk'))
    .option('--nic <label>', 'the nic to boot from (the first)')
    .option('--network <name>', 'the network to put the nic into')
    .addOption(
      new Option('--wait <for>', 'until the node is powered on (ready), has phoned home (booted), or not at all (none)')
        .choices(['ready', 'booted', 'none'])
        .default('booted'),
    )
    .action(
      act(async (app, { image, disk, diskName, nic, network, wait }: ProvisionOptions, node: string) => {
        if ((image === undefined) === (disk === undefined)) throw usageError('give either --image or --disk');
        const params = { project: await app.project() };
        const waitFor = wait === 'booted' ? ('booted' as const) : ('ready' as const);
        const body = { node, image, disk, diskName, nic, network, waitFor };
        const accepted = await app.call('provisionCreate', { params, body });
        const made = async () => {
          const id = accepted.about.provision ?? (await liveProvision(app, params.project, node)).id;
          return card(app, await app.call('provisionShow', { params: { ...params, id } }));
        };
        await follow(app, accepted, { wait: wait !== 'none', made });
      }),
    );

  provision
    .command('list')
    .description('the provisions of the project, newest first')
    .option('--all', 'those that ended too')
    .addOption(limitOption())
    .action(
      act(async (app, { all, limit }: ListOptions & { all?: boolean }) => {
        const params = { project: await app.project() };
        const query = { all: all ? 'true' : 'false' };
        app.print(await (await app.client()).list('provisionList', { params, query }, limit), ({ items }) =>
          app.table(
            ['ID', 'NODE', 'STATE', 'DISK', 'CREATED'],
            items.map(({ id, nodeName, state, diskName, createdAt }) => [
              id,
              nodeName,
              state,
              diskName,
              formatAge(createdAt),
            ]),
          ),
        );
      }),
    );

  provision
    .command('show <provision>')
    .description("one provision, by its id or its node's name")
    .action(
      act(async (app, _options, wanted: string) => {
        await app.printCard(await findProvision(app, await app.project(), wanted), card);
      }),
    );

  destructive(program.command('deprovision <provision>').helpGroup('Commands:'))
    .description(
      "power a node off and take everything back, by the provision's id or the node's name; the disk is kept",
    )
    .option('--delete-disk', 'delete the disk and its data too')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DestroyOptions & WaitOptions & { deleteDisk?: boolean }, wanted: string) => {
        const project = await app.project();
        const found = await findProvision(app, project, wanted);
        if (options.dryRun || options.deleteDisk) {
          if (!(await mayDestroy(app, options, () => look(app, project, found, options.deleteDisk ?? false)))) return;
        }
        const query = { disk: options.deleteDisk ? ('delete' as const) : ('keep' as const) };
        await follow(app, await app.call('provisionDelete', { params: { project, id: found.id }, query }), options);
      }),
    );
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A provision by its id, or the one that uses the node of that name or id now. */
async function findProvision(app: App, project: string, wanted: string): Promise<Provision> {
  if (!uuid.test(wanted)) return liveProvision(app, project, wanted);
  try {
    return await app.call('provisionShow', { params: { project, id: wanted } });
  } catch (error) {
    if (error instanceof ApiError && error.code === 'provision.not_found') return liveProvision(app, project, wanted);
    throw error;
  }
}

async function liveProvision(app: App, project: string, node: string): Promise<Provision> {
  const { items } = await (await app.client()).list('provisionList', { params: { project } });
  const using = items.filter((one) => one.endedAt === null && (one.nodeName === node || one.node === node));
  const [only, ...others] = using;
  if (only && others.length === 0) return only;
  if (only) {
    throw usageError(
      `${node} has ${using.length} provisions`,
      `Name one by its id: ${using.map(({ id }) => id).join(', ')}`,
    );
  }
  throw new ApiError(404, {
    code: 'provision.not_found',
    title: 'There is no such provision',
    detail: `nothing in the project ${project} uses ${node}`,
    remedy: 'List them with m2 provision list.',
  });
}

async function look(app: App, project: string, found: Provision, deleteDisk: boolean) {
  const binding = `provision of ${found.nodeName} (${found.state})`;
  if (!deleteDisk) return { what: `${binding}; its disk ${found.diskName} is kept`, object: found, usedBy: [] };
  // The provision itself is what holds the disk, and it ends before the disk goes.
  const disk = await lookAtDisk(app, { project, disk: found.disk });
  return { what: `${binding} and ${disk.what}`, object: found, usedBy: [] };
}

/** One provision, for people: with the name of its image. */
async function card(app: App, one: Provision): Promise<string> {
  const image = one.image && (await imageName(app, one.project, one.image));
  return app.card({
    id: one.id,
    node: one.nodeName,
    state: one.state,
    nic: one.nic,
    disk: one.diskName,
    image,
    operation: one.operation,
    created: one.createdAt,
    ended: one.endedAt,
    ...(one.report && { report: JSON.stringify(one.report) }),
  });
}
