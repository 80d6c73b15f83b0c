import type { CompletionNode, Kind } from './tree.js';

/** Words of a bash reply: `_m2_words a b`, `_m2_names disk`, `_m2_files`. */
function reply(kind: Kind): string {
  if (kind === 'file') return '_m2_files';
  if (kind === 'nothing') return ':';
  return 'names' in kind ? `_m2_names ${kind.names}` : `_m2_words ${kind.words.join(' ')}`;
}

/** `case` branches: what stands before the word under the cursor, and what to offer there. */
interface Cases {
  /** Every `path/child`: what moves on to a command. */
  commands: string[];
  /** Every `path/--flag` that takes a value. */
  values: { at: string; kind: Kind }[];
  /** `path/n` for the nth argument. */
  args: { at: string; kind: Kind }[];
  options: { path: string; flags: string[] }[];
  children: { path: string; names: string[] }[];
}

const at = (node: CompletionNode, rest: string) => `${node.path}/${rest}`;

function casesOf(tree: CompletionNode[]): Cases {
  return {
    commands: tree.flatMap((node) => node.children.map((child) => at(node, child))),
    values: tree.flatMap((node) =>
      node.options.flatMap(({ flags, value }) =>
        value ? flags.map((flag) => ({ at: at(node, flag), kind: value })) : [],
      ),
    ),
    args: tree.flatMap((node) => node.args.map((kind, index) => ({ at: at(node, String(index)), kind }))),
    options: tree.map(({ path, options }) => ({ path, flags: options.flatMap(({ flags }) => flags) })),
    children: tree
      .filter(({ children }) => children.length > 0)
      .map(({ path, children }) => ({ path, names: children })),
  };
}

const pattern = (text: string) => `"${text}"`;
const branch = (patterns: string[], body: string) => `    ${patterns.map(pattern).join('|')}) ${body} ;;`;

/** Branches with the same body share one. */
function branches(entries: { at: string; kind: Kind }[]): string {
  const bodies = Map.groupBy(entries, ({ kind }) => reply(kind));
  return [...bodies]
    .map(([body, group]) =>
      branch(
        group.map(({ at }) => at),
        body,
      ),
    )
    .join('\n');
}

/**
 * The part that bash and zsh share: it walks the words before the cursor and offers what can stand there. The words are in the
 * array `words`, the index of the one under the cursor in `cword`; `_m2_words`, `_m2_names` and `_m2_files` make the offer.
 */
export function walker(tree: CompletionNode[]): string {
  const cases = casesOf(tree);
  return `
_m2_takes_value() {
  case "$1" in
${branch(
  cases.values.map(({ at }) => at),
  'return 0',
)}
  esac
  return 1
}

_m2_is_command() {
  case "$1" in
${branch(cases.commands, 'return 0')}
  esac
  return 1
}

_m2_offer_value() {
  case "$1" in
${branches(cases.values)}
  esac
}

_m2_offer_argument() {
  case "$1" in
${branches(cases.args)}
  esac
}

_m2_offer_options() {
  case "$1" in
${cases.options.map(({ path, flags }) => branch([path], `_m2_words ${flags.join(' ')} --help`)).join('\n')}
  esac
}

_m2_offer_commands() {
  case "$1" in
${cases.children.map(({ path, names }) => branch([path], `_m2_words ${names.join(' ')}`)).join('\n')}
  esac
}

_m2_walk() {
  local at="" count=0 index=1 word
  while [ "$index" -lt "$cword" ]; do
    word="\${words[$index]}"
    if _m2_takes_value "$at/$word"; then
      index=$((index + 1))
      if [ "$index" -ge "$cword" ]; then
        _m2_offer_value "$at/$word"
        return
      fi
    elif [ "$count" -eq 0 ] && _m2_is_command "$at/$word"; then
      at="\${at:+$at }$word"
    elif [ "\${word#-}" = "$word" ]; then
      count=$((count + 1))
    fi
    index=$((index + 1))
  done
  if [ "\${cur#-}" != "$cur" ]; then
    _m2_offer_options "$at"
    return
  fi
  [ "$count" -gt 0 ] || _m2_offer_commands "$at"
  _m2_offer_argument "$at/$count"
}
`;
}

export const bashScript = (
  tree: CompletionNode[],
): string => `# Completion of m2 for bash. Load it with: source <(m2 completion bash)
${walker(tree)}
_m2_words() {
  COMPREPLY+=($(compgen -W "$*" -- "$cur"))
}

_m2_names() {
  # Names are checked by the gateway to hold nothing that a shell would read; compgen splits them at white space.
  COMPREPLY+=($(compgen -W "$("\${words[0]}" __complete "$1" "\${words[@]:1}" 2>/dev/null </dev/null)" -- "$cur"))
}

_m2_files() {
  local IFS=$'\\n'
  COMPREPLY+=($(compgen -f -- "$cur"))
  compopt -o filenames 2>/dev/null
}

_m2() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" cword="$COMP_CWORD" words=("\${COMP_WORDS[@]}")
  COMPREPLY=()
  _m2_walk
}

complete -F _m2 m2
`;
