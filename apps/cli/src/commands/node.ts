import type { Node } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import type { Call } from '../client.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { usageError } from '../errors.js';
import { formatAge } from '../output/units.js';
import { bmcFrom, type BmcOptions, parseCipherSuites, parseEndpoint, parseNics, readSpec } from './node-spec.js';
import { destructive, group, limitOption, type ListOptions } from './parts.js';

interface RegisterOptions extends BmcOptions {
  file?: string;
  mac?: ReturnType<typeof parseNics>;
  firmware?: 'bios' | 'uefi';
  onlyFor?: string;
}

export function nodeCommands(program: Command, act: Act): void {
  const node = group(program, 'node', 'nodes: bare-metal machines with nics and a BMC');

  node
    .command('list')
    .description('the nodes that you may use')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const page = await (await app.client()).list('nodeList', {}, limit);
        const projects = app.json ? new Map<string, string>() : await app.projectNames();
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'STATE', 'PROJECT', 'FIRMWARE', 'MAC', 'BMC', 'CREATED'],
            items.map((one) => {
              const project = one.holderProject ?? one.project;
              const where = project === null ? null : (projects.get(project) ?? project);
              return [
                one.name,
                state(one),
                where,
                one.firmware,
                one.nics[0]?.mac,
                address(one),
                formatAge(one.createdAt),
              ];
            }),
          ),
        );
      }),
    );

  node
    .command('show <node>')
    .description('one node')
    .action(
      act(async (app, _options, node: string) => {
        app.print(await app.call('nodeShow', { params: { node } }), card(app));
      }),
    );

  withBmc(node.command('register [name]').description('make a node known'))
    .addOption(new Option('--mac <macs>', 'its nics, the boot nic first: MAC[,label=MAC…]').argParser(parseNics))
    .addOption(new Option('--firmware <kind>', 'how it boots (bios)').choices(['bios', 'uefi']))
    .option('--only-for <project>', 'only this project may use it')
    .option('-f, --file <file>', 'a node as JSON (- for standard input); the other options go before it')
    .action(
      act(async (app, options: RegisterOptions, name?: string) => {
        app.print(await app.call('nodeRegister', { body: await specFrom(app, options, name) }), card(app));
      }),
    );

  withBmc(node.command('set-bmc <node>').description('change how a node is powered')).action(
    act(async (app, options: BmcOptions, node: string) => {
      app.print(await app.call('nodeSetBmc', { params: { node }, body: await bmcFrom(app.world, options) }), card(app));
    }),
  );

  node
    .command('power <node>')
    .description('ask the BMC of a node whether it is on')
    .action(
      act(async (app, _options, node: string) => {
        app.print(await app.call('nodePower', { params: { node } }), ({ power }) => `${power}\n`);
      }),
    );

  destructive(node.command('remove <node>').description('forget a node that nobody holds')).action(
    act(async (app, options: DestroyOptions, node: string) => {
      if (!(await mayDestroy(app, options, () => look(app, node)))) return;
      await app.call('nodeRemove', { params: { node } });
      app.note(`The node ${node} is forgotten.`);
    }),
  );

  markCommands(node, act);
}

interface MarkOptions extends DestroyOptions {
  reason: string;
}

/** `node mark-broken`, `mark-repaired`: for a node whose BMC or board is dead. */
function markCommands(node: Command, act: Act): void {
  destructive(node.command('mark-broken <node>'))
    .description('keep a node from everybody until it is marked repaired')
    .requiredOption('--reason <reason>', 'why; it goes on record')
    .action(
      act(async (app, options: MarkOptions, node: string) => {
        if (!(await mayDestroy(app, options, () => lookAtBroken(app, node)))) return;
        const { reason } = options;
        app.print(await app.call('nodeMarkBroken', { params: { node }, body: { reason } }), card(app));
      }),
    );

  node
    .command('mark-repaired <node>')
    .description('let a node that was marked broken be used again')
    .requiredOption('--reason <reason>', 'why; it goes on record')
    .action(
      act(async (app, { reason }: MarkOptions, node: string) => {
        app.print(await app.call('nodeMarkRepaired', { params: { node }, body: { reason } }), card(app));
      }),
    );
}

async function lookAtBroken(app: App, node: string): Promise<Doomed> {
  const object = await app.call('nodeShow', { params: { node } });
  const held = object.holder === null ? '' : ` Provision ${object.holder} goes on holding it.`;
  return { verb: 'mark', what: `node ${object.name} broken: nobody gets it.${held}`, object, usedBy: [] };
}

const withBmc = (command: Command): Command =>
  command
    .addOption(new Option('--bmc <address>', 'its BMC: HOST[:PORT]').argParser(parseEndpoint))
    .option('--bmc-user <user>', 'who to log in to the BMC as')
    .option('--bmc-password-file <file>', 'file with the password of the BMC (a prompt or standard input otherwise)')
    .addOption(
      new Option('--cipher-suites <numbers>', 'IPMI cipher suites to try (17,3)').argParser(parseCipherSuites),
    );

type Spec = NonNullable<Call<'nodeRegister'>['body']>;

/** What the file says, with the options in its place where they are given. The API's schema checks the result. */
async function specFrom(app: App, options: RegisterOptions, name: string | undefined): Promise<Spec> {
  const { file, mac, firmware, onlyFor } = options;
  const spec: Record<string, unknown> = file === undefined ? {} : await readSpec(app.world, file);
  if (name !== undefined) spec.name = name;
  if (mac) spec.nics = mac;
  if (firmware) spec.firmware = firmware;
  if (onlyFor !== undefined) spec.project = (await app.call('projectShow', { params: { project: onlyFor } })).id;
  const described = spec.bmc as Record<string, unknown> | undefined;
  if (described?.password === undefined || options.bmc) {
    const { address, port, user } = (described ?? {}) as { address?: string; port?: number; user?: string };
    const bmc = options.bmc ?? (address === undefined ? undefined : { address, ...(port !== undefined && { port }) });
    const bmcUser = options.bmcUser ?? user;
    spec.bmc = {
      ...described,
      ...(await bmcFrom(app.world, { ...options, ...(bmc && { bmc }), ...(bmcUser !== undefined && { bmcUser }) })),
    };
  }
  if (spec.name === undefined || spec.nics === undefined) throw usageError('a node needs a name and --mac');
  return spec as unknown as Spec;
}

const state = ({ holder, broken }: Node) => {
  if (broken) return holder === null ? 'broken' : 'broken, reserved';
  return holder === null ? 'free' : 'reserved';
};
const address = ({ bmc }: Node) => (bmc.port === 623 ? bmc.address : `${bmc.address}:${bmc.port}`);

const card = (app: App) => (node: Node) =>
  app.card({
    name: node.name,
    id: node.id,
    state: state(node),
    ...(node.broken && { broken: `${node.broken.reason} (${node.broken.by})` }),
    'held by': node.holder,
    'only for': node.project,
    nics: node.nics.map(({ label, mac }) => `${label}=${mac}`).join(', '),
    firmware: node.firmware,
    bmc: `${node.bmc.user}@${address(node)} (${node.bmc.driver}, cipher suites ${node.bmc.cipherSuites.join(', ')})`,
    created: node.createdAt,
  });

async function look(app: App, node: string): Promise<Doomed> {
  const object = await app.call('nodeShow', { params: { node } });
  return { what: `node ${object.name}`, object, usedBy: object.holder === null ? [] : [`provision ${object.holder}`] };
}
