import type { CompletionNode, CompletionOption, Kind } from './tree.js';

/** fish's single quotes know two escapes. */
const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

function offer(kind: Kind): string {
  if (kind === 'file') return '-F';
  if (kind === 'nothing') return '-f';
  return 'names' in kind ? `-f -a '(__m2_names ${kind.names})'` : `-f -a ${quote(kind.words.join(' '))}`;
}

function optionLine(path: string, { flags, description, value }: CompletionOption): string {
  const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`)).join(' ');
  return `complete -c m2 -n ${quote(`__m2_at ${quote(path)}`)} ${names}${value ? ` -r ${offer(value)}` : ''} -d ${quote(description)}`;
}

function nodeLines(node: CompletionNode, tree: CompletionNode[]): string[] {
  const at = quote(node.path);
  const describe = (name: string) => tree.find(({ path }) => path === `${node.path} ${name}`.trim())?.description ?? '';
  return [
    ...node.children.map(
      (name) => `complete -c m2 -n ${quote(`__m2_at ${at} 0`)} -f -a ${quote(name)} -d ${quote(describe(name))}`,
    ),
    ...node.args.map((kind, index) => `complete -c m2 -n ${quote(`__m2_at ${at} ${index}`)} ${offer(kind)}`),
    ...node.options.map((option) => optionLine(node.path, option)),
  ];
}

export function fishScript(tree: CompletionNode[]): string {
  const commands = tree.filter(({ path }) => path !== '').map(({ path }) => quote(path));
  const values = tree.flatMap(({ path, options }) =>
    options.filter(({ value }) => value).flatMap(({ flags }) => flags.map((flag) => quote(`${path}/${flag}`))),
  );
  return `# Completion of m2 for fish. Load it with: m2 completion fish | source
set -g __m2_commands ${commands.join(' ')}
set -g __m2_values ${values.join(' ')}

# The command that the words before the cursor make, and how many arguments it has.
function __m2_where
  set -l words (commandline -opc)
  set -l at ''
  set -l count 0
  set -l skip 0
  for word in $words[2..]
    if test $skip -eq 1
      set skip 0
    else if contains -- "$at/$word" $__m2_values
      set skip 1
    else if test $count -eq 0; and contains -- (string trim -- "$at $word") $__m2_commands
      set at (string trim -- "$at $word")
    else if not string match -q -- '-*' $word
      set count (math $count + 1)
    end
  end
  echo $at
  echo $count
end

function __m2_at
  set -l where (__m2_where)
  test "$where[1]" = "$argv[1]"; or return 1
  test (count $argv) -eq 1; or test "$where[2]" = "$argv[2]"
end

function __m2_names
  set -l words (commandline -opc)
  $words[1] __complete $argv[1] $words[2..] 2>/dev/null </dev/null
end

complete -c m2 -f
${tree.flatMap((node) => nodeLines(node, tree)).join('\n')}
`;
}
