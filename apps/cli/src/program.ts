import { type Argument, Command, CommanderError, type Option } from 'commander';
import { actIn, pathOf } from './app.js';
import { completionCommands } from './commands/completion.js';
import { diskCommands } from './commands/disk.js';
import { eventCommands } from './commands/events.js';
import { fsckCommand } from './commands/fsck.js';
import { helpCommand } from './commands/help.js';
import { imageCommands } from './commands/image.js';
import { nodeCommands } from './commands/node.js';
import { operationCommands } from './commands/operation.js';
import { projectCommands } from './commands/project.js';
import { provisionCommands } from './commands/provision.js';
import { quotaCommands } from './commands/quota.js';
import { sessionCommands } from './commands/session.js';
import { storageCommands } from './commands/storage.js';
import { tokenCommands } from './commands/token.js';
import { CliError, inCommand, usageError } from './errors.js';
import { type ExitCode, exitCodes } from './exit-codes.js';
import { localCommands } from './local/index.js';
import { addCommonOptions, isForOnce } from './options.js';
import { formatError } from './output/error.js';
import { styleOf } from './output/style.js';
import { Exit, type World } from './world.js';

const groups = [
  sessionCommands,
  projectCommands,
  imageCommands,
  diskCommands,
  nodeCommands,
  provisionCommands,
  operationCommands,
  eventCommands,
  tokenCommands,
  quotaCommands,
  storageCommands,
  fsckCommand,
  localCommands,
  completionCommands,
  helpCommand,
];

/** A command that says what is wrong with its words as every other error is said. */
class M2Command extends Command {
  override createCommand(name?: string): Command {
    return new M2Command(name);
  }

  override addOption(option: Option): this {
    this.on(`option:${option.name()}`, () => {
      const given = this.getOptionValueSource(option.attributeName()) === 'cli';
      if (given && isForOnce(option)) this.error(`error: option '${option.flags}' is given twice, and takes one value`);
    });
    return super.addOption(option);
  }

  /** Commander's message: `error: unknown option '--lmit'`, and perhaps a line `(Did you mean --limit?)`. */
  override error(message: string): never {
    const [what, hint] = message.replace(/^error: /, '').split('\n');
    const meant = hint?.replace(/^\((.*)\)$/, '$1 ');
    throw inCommand(pathOf(this), usageError(what!, `${meant ?? ''}See m2 help.`));
  }
}

/** The whole tree of commands. */
export function buildProgram(world: World): Command {
  const program = new M2Command('m2')
    .description('Malleable Metal as a Service: bare-metal nodes that boot from network disks')
    .version('0.1.0', '-V, --version')
    .configureOutput({
      writeOut: (text) => void world.stdout.write(text),
      writeErr: (text) => void world.stderr.write(text),
      getOutHelpWidth: () => world.stdout.columns || 100,
      getErrHelpWidth: () => world.stderr.columns || 100,
    })
    .configureHelp({
      showGlobalOptions: true,
      // Every command has options; saying so in each line of a list says nothing.
      subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(shown)].join(' '),
    })
    .enablePositionalOptions()
    .exitOverride();
  const act = actIn(world);
  for (const add of groups) add(program, act);
  addCommonOptions(program);
  return program;
}

function shown(argument: Argument): string {
  const name = argument.variadic ? `${argument.name()}...` : argument.name();
  return argument.required ? `<${name}>` : `[${name}]`;
}

/** Runs one command line (without `node` and the script) and returns what to exit with. */
export async function run(args: string[], world: World): Promise<ExitCode> {
  try {
    await buildProgram(world).parseAsync(args, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof Exit) return error.exitCode;
    // Help and the version; the help that stands in for a missing command is an error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    const known = error instanceof CliError ? error : unexpected(error);
    world.stderr.write(formatError(known, styleOf(world.stderr, world.env)));
    if (known.code === 'cli.bug' && world.env.M2_DEBUG) world.stderr.write(`${(error as Error).stack}\n`);
    return known.exitCode;
  }
}

const unexpected = (cause: unknown) =>
  new CliError(
    {
      code: 'cli.bug',
      title: 'Something went wrong inside the command line',
      detail: cause instanceof Error ? cause.message : String(cause),
      remedy: 'Run it again with M2_DEBUG=1, and report what it says.',
      exitCode: exitCodes.failed,
    },
    { cause },
  );
