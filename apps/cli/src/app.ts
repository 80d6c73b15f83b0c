import type { Project, RouteName } from '@m2/contracts';
import type { Command } from 'commander';
import { type Answer, type Call, M2Client } from './client.js';
import { type Connection, resolveConnection } from './config/connection.js';
import { loginPath, readLogin } from './config/login-file.js';
import { inCommand, usageError } from './errors.js';
import { type CommonOptions, commonOptions } from './options.js';
import { paintState, type Style, styleOf } from './output/style.js';
import { type Cell, formatCard, formatTable } from './output/table.js';
import type { World } from './world.js';

/** What a command works with: the options that all have in common, the client, the project, and where to print. */
export class App {
  readonly common: CommonOptions;
  readonly style: Style;
  #connection: Promise<Connection> | undefined;
  #client: Promise<M2Client> | undefined;

  constructor(
    readonly world: World,
    command: Command,
  ) {
    this.common = commonOptions(command);
    this.style = styleOf(world.stdout, world.env);
  }

  get json(): boolean {
    return this.common.json ?? false;
  }

  connection(): Promise<Connection> {
    return (this.#connection ??= resolveConnection(this.world, this.common));
  }

  client(): Promise<M2Client> {
    return (this.#client ??= this.connection().then(
      (connection) => new M2Client({ ...connection, onWait: (what) => this.note(what) }),
    ));
  }

  /** Calls a route of the API. */
  async call<Name extends RouteName>(name: Name, call: Call<Name> = {}): Promise<Answer<Name>> {
    return (await this.client()).call(name, call);
  }

  /** The project to work in: `--project`, `M2_PROJECT`, what `m2 project use` remembered, or the token's own. */
  async project(): Promise<string> {
    const chosen = this.common.project ?? this.world.env.M2_PROJECT;
    if (chosen) return chosen;
    const { project } = await readLogin(loginPath(this.world));
    if (project !== undefined) return project;
    const own = (await this.call('whoami')).project;
    if (own !== null) return own;
    throw usageError('no project was named', 'Give --project NAME, set M2_PROJECT, or run m2 project use NAME.');
  }

  /** Data, for the one who called: the only thing that ever goes to standard output. */
  data(text: string): void {
    this.world.stdout.write(text);
  }

  /** Everything that is said beside the data. */
  note(text: string): void {
    this.world.stderr.write(`${text}\n`);
  }

  /** One object or page: as the API gave it with `--json`, else what `human` makes of it. */
  print<Value>(value: Value, human: (value: Value) => string): void {
    this.data(this.json ? `${JSON.stringify(value, null, 2)}\n` : human(value));
  }

  /** One object whose card has names that must be asked for; with `--json` nothing is asked. */
  async printCard<Value>(value: Value, card: (app: App, value: Value) => Promise<string>): Promise<void> {
    const text = this.json ? '' : await card(this, value);
    this.print(value, () => text);
  }

  /** One object of many, on one line with `--json`. */
  printLine<Value>(value: Value, human: (value: Value) => string): void {
    this.data(this.json ? `${JSON.stringify(value)}\n` : human(value));
  }

  table(head: string[], rows: Cell[][]): string {
    return formatTable(this.style, head, rows, (text, column) =>
      column === 'STATE' ? paintState(this.style, text) : text,
    );
  }

  card(fields: Record<string, Cell>): string {
    return formatCard(this.style, fields, (text, name) => (name === 'state' ? paintState(this.style, text) : text));
  }

  /** Names of projects by identifier, for tables that show what belongs to whom. */
  async projectNames(): Promise<Map<string, string>> {
    const { items } = await (await this.client()).list('projectList');
    return new Map(items.map(({ id, name }: Project) => [id, name]));
  }
}

/** Makes an action for commander: options and arguments in the types that the command declared them with. */
export type Act = <Options extends object, Arguments extends unknown[]>(
  handler: (app: App, options: Options, ...args: Arguments) => Promise<void>,
) => (this: Command) => Promise<void>;

export const actIn =
  (world: World): Act =>
  (handler) =>
    async function (this: Command) {
      try {
        // Commander knows the types of what it parsed only at run time; each command declares them beside its options.
        await handler(new App(world, this), this.opts(), ...(this.processedArgs as never));
      } catch (error) {
        throw inCommand(pathOf(this), error);
      }
    };

/** `disk create`; empty for the program. */
export const pathOf = (command: Command): string =>
  command.parent ? `${pathOf(command.parent)} ${command.name()}`.trim() : '';
