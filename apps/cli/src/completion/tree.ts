import type { Argument, Command, Option } from 'commander';
import { isCommon } from '../options.js';

/** What can be completed after something: `file`, one of these words, names that the gateway knows, or nothing. */
export type Kind = { words: string[] } | { names: string } | 'file' | 'nothing';

export interface CompletionOption {
  flags: string[];
  description: string;
  /** What its value is; absent: it takes none. */
  value?: Kind;
}

export interface CompletionNode {
  /** `disk create`; empty for the program. */
  path: string;
  description: string;
  children: string[];
  options: CompletionOption[];
  args: Kind[];
}

/** Placeholders of arguments and options whose values the gateway knows, or an installation on this machine. */
export const dynamicNames = [
  'project',
  'image',
  'disk',
  'deleted-disk',
  'tag',
  'node',
  'provision',
  'operation',
  'service',
] as const;

const kindOf = (placeholder: string, choices: readonly string[] | undefined): Kind => {
  if (choices) return { words: [...choices] };
  if ((dynamicNames as readonly string[]).includes(placeholder)) return { names: placeholder };
  return placeholder === 'file' || placeholder === 'dir' ? 'file' : 'nothing';
};

/** Commander's tree as a list, with what every word of it can be completed to. */
export function completionTree(command: Command, path = ''): CompletionNode[] {
  const visible = command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.parent === command);
  // A group that takes an argument itself (`provision NODE`) offers both.
  const node: CompletionNode = {
    path,
    description: command.description(),
    children: visible.map((child) => child.name()),
    options: command.options.filter((option) => isCommon(option) || !option.hidden).map(optionOf),
    args: command.registeredArguments.map(argumentOf),
  };
  return [node, ...visible.flatMap((child) => completionTree(child, `${path} ${child.name()}`.trim()))];
}

function optionOf(option: Option): CompletionOption {
  const placeholder = /[<[]([\w-]+)/.exec(option.flags)?.[1];
  return {
    flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
    description: option.description,
    ...(placeholder !== undefined && { value: kindOf(placeholder, option.argChoices) }),
  };
}

const argumentOf = (argument: Argument): Kind => kindOf(argument.name(), argument.argChoices);
