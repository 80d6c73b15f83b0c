import { type Command, Option } from 'commander';

export interface CommonOptions {
  url?: string;
  tokenFile?: string;
  state?: string;
  project?: string;
  json?: boolean;
}

const declared = () => [
  new Option('--json', "the API's JSON on standard output"),
  new Option('--project <project>', 'the project to work in (M2_PROJECT)'),
  new Option('--url <url>', 'address of the gateway (M2_URL)'),
  new Option('--token-file <file>', 'file that holds the token (M2_TOKEN_FILE, or the token itself in M2_TOKEN)'),
  new Option('--state <dir>', 'state directory of an installation on this machine (M2_STATE)'),
];

const common = new WeakSet<Option>();

/**
 * Gives the common options to the whole tree, so that they are understood before and after any word of a command. Where a
 * command has an option of that name itself (`image import --url`), its own one stands, and the common one goes before it.
 */
export function addCommonOptions(program: Command): void {
  const add = (command: Command, shown: boolean) => {
    for (const option of declared()) {
      if (command.options.some(({ long }) => long === option.long)) continue;
      common.add(option.hideHelp(!shown));
      command.addOption(option);
    }
    for (const child of command.commands) add(child, false);
  };
  add(program, true);
}

/** The common options of a command: the ones nearest to it win. */
export function commonOptions(command: Command): CommonOptions {
  const values: Record<string, unknown> = {};
  for (let at: Command | null = command; at; at = at.parent) {
    for (const option of at.options) {
      const key = option.attributeName();
      if (common.has(option)) values[key] ??= at.getOptionValue(key);
    }
  }
  return values;
}

export const isCommon = (option: Option) => common.has(option);

const repeated = new WeakSet<Option>();

/** An option that may be given several times; its value is the list of what `parse` made of each. */
export function repeatable<Value>(option: Option, parse: (text: string) => Value): Option {
  repeated.add(option);
  return option.argParser((text: string, before: Value[] = []) => [...before, parse(text)]);
}

/** Of all other options a second value would silently replace the first. The common ones may stand in an alias, and be given again. */
export const isForOnce = (option: Option) =>
  !option.isBoolean() && !option.variadic && !repeated.has(option) && !common.has(option);
