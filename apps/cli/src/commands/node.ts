import { M2Error, type Node, rolesThatMay, routes } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import type { Call } from '../client.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { refusedWith, usageError } from '../errors.js';
import { formatAge } from '../output/units.js';
import { canAsk } from '../prompt.js';
import {
  bmcFrom,
  type BmcOptions,
  bmcPassword,
  parseCipherSuites,
  parseEndpoint,
  parseNics,
  readSpec,
} from './node-spec.js';
import { projectName } from './names.js';
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
        await app.printCard(await app.call('nodeShow', { params: { node } }), card);
      }),
    );

  withBmc(node.command('register [name]').description('make a node known'))
    .addOption(new Option('--mac <macs>', 'its nics, the boot nic first: MAC[,label=MAC…]').argParser(parseNics))
    .addOption(new Option('--firmware <kind>', 'how it boots (bios)').choices(['bios', 'uefi']))
    .option('--only-for <project>', 'only this project may use it')
    .option('-f, --file <file>', 'a node as JSON (- for standard input); the other options go before it')
    .action(
      act(async (app, options: RegisterOptions, name?: string) => {
        await app.printCard(await app.call('nodeRegister', { body: await specFrom(app, options, name) }), card);
      }),
    );

  withBmc(node.command('set-bmc <node>').description('change how a node is powered')).action(
    act(async (app, options: BmcOptions, node: string) => {
      const bmc = bmcFrom(options);
      await beforePassword(app, 'nodeSetBmc', { params: { node }, body: { ...bmc, password: unknownYet } });
      const body = { ...bmc, password: await bmcPassword(app.world, options.bmcPasswordFile) };
      await app.printCard(await app.call('nodeSetBmc', { params: { node }, body }), card);
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
        await app.printCard(await app.call('nodeMarkBroken', { params: { node }, body: { reason } }), card);
      }),
    );

  node
    .command('mark-repaired <node>')
    .description('let a node that was marked broken be used again')
    .requiredOption('--reason <reason>', 'why; it goes on record')
    .action(
      act(async (app, { reason }: MarkOptions, node: string) => {
        const { broken } = await app.call('nodeShow', { params: { node } });
        await app.printCard(await app.call('nodeMarkRepaired', { params: { node }, body: { reason } }), card);
        if (broken === null) app.note(`The node ${node} was not marked broken. The reason is on record all the same.`);
      }),
    );
}

async function lookAtBroken(app: App, node: string): Promise<Doomed> {
  const object = await app.call('nodeShow', { params: { node } });
  const what = `node ${object.name} broken, so that nobody gets it`;
  const held = object.holder !== null && { consequences: `Provision ${object.holder} goes on holding it.` };
  return { verb: 'mark', what, ...held, object, usedBy: [] };
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
  const asks = described?.password === undefined || options.bmc !== undefined;
  if (asks) {
    const { address, port, user } = (described ?? {}) as { address?: string; port?: number; user?: string };
    const bmc = options.bmc ?? (address === undefined ? undefined : { address, ...(port !== undefined && { port }) });
    const bmcUser = options.bmcUser ?? user;
    spec.bmc = {
      ...described,
      ...bmcFrom({ ...options, ...(bmc && { bmc }), ...(bmcUser !== undefined && { bmcUser }) }),
      password: unknownYet,
    };
  }
  if (spec.name === undefined || spec.nics === undefined) throw usageError('a node needs a name and --mac');
  const body = spec as unknown as Spec;
  if (!asks) return body;
  await beforePassword(app, 'nodeRegister', { body });
  return { ...body, bmc: { ...body.bmc, password: await bmcPassword(app.world, options.bmcPasswordFile) } };
}

/** Stands in for a password that is asked for when everything else is right. */
const unknownYet = 'x';

/** Nobody types a password to be told then that a MAC is none, or that the token may not do this. Throws what the gateway would. */
async function beforePassword<Name extends 'nodeRegister' | 'nodeSetBmc'>(
  app: App,
  name: Name,
  call: Call<Name>,
): Promise<void> {
  (await app.client()).address(name, call);
  if (!canAsk(app.world)) return;
  const may = rolesThatMay(routes[name].useCase.permission);
  const { role } = await app.call('whoami');
  if (may.includes(role)) return;
  throw refusedWith(new M2Error('auth.forbidden', `This needs the role ${may.join(' or ')}; the token has ${role}`));
}

const state = ({ holder, broken }: Node) => {
  if (broken) return holder === null ? 'broken' : 'broken, reserved';
  return holder === null ? 'free' : 'reserved';
};
const address = ({ bmc }: Node) => (bmc.port === 623 ? bmc.address : `${bmc.address}:${bmc.port}`);

/** One node, for people: with the names of the projects that hold it and that it is for. */
async function card(app: App, node: Node): Promise<string> {
  const [holderProject, onlyFor] = await Promise.all(
    [node.holderProject, node.project].map((id) => id && projectName(app, id)),
  );
  return app.card({
    name: node.name,
    id: node.id,
    state: state(node),
    ...(node.broken && { broken: `${node.broken.reason} (${node.broken.by})` }),
    'held by': node.holder && `provision ${node.holder}${holderProject ? ` of project ${holderProject}` : ''}`,
    'only for': onlyFor,
    nics: node.nics.map(({ label, mac }) => `${label}=${mac}`).join(', '),
    firmware: node.firmware,
    bmc: `${node.bmc.user}@${address(node)} (${node.bmc.driver}, cipher suites ${node.bmc.cipherSuites.join(', ')})`,
    created: node.createdAt,
  });
}

async function look(app: App, node: string): Promise<Doomed> {
  const object = await app.call('nodeShow', { params: { node } });
  return { what: `node ${object.name}`, object, usedBy: object.holder === null ? [] : [`provision ${object.holder}`] };
}
