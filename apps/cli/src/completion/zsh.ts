import { walker } from './bash.js';
import type { CompletionNode } from './tree.js';

/** Arrays of zsh count from 1; `KSH_ARRAYS`, for these functions only, lets them share the walk with bash. */
export const zshScript = (tree: CompletionNode[]): string => `#compdef m2
# Completion of m2 for zsh. Load it with: source <(m2 completion zsh), or save it as _m2 in a folder of $fpath.
${walker(tree)}
_m2_words() {
  compadd -- "$@"
}

_m2_names() {
  local answer
  answer="$("\${words[0]}" __complete "$1" "\${words[@]:1}" 2>/dev/null </dev/null)"
  setopt local_options no_ksh_arrays
  [ -n "$answer" ] && compadd -- \${(f)answer}
}

_m2_files() {
  setopt local_options no_ksh_arrays
  _files
}

_m2() {
  local cur="\${words[CURRENT]}" cword=$((CURRENT - 1))
  setopt local_options ksh_arrays
  _m2_walk
}

if [ "\${funcstack[1]}" = "_m2" ]; then
  _m2 "$@"
else
  compdef _m2 m2
fi
`;
