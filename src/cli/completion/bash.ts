import type { CompletionNode } from './tree.ts';

/** The completion script for bash; it needs nothing but bash. */
export function bashCompletion(nodes: readonly CompletionNode[]): string {
  const paths = nodes.slice(1).map(node => `'${node.path}'`);
  return `# bash completion for varve: eval "$(varve completion bash)"
_varve() {
  COMPREPLY=()
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" path=varve words='' at
  for ((at = 1; at < COMP_CWORD; at++)); do
    case "$path \${COMP_WORDS[at]}" in
      ${paths.join(' | ')}) path="$path \${COMP_WORDS[at]}" ;;
    esac
  done
  case "$path $previous" in
${nodes.flatMap(valueCases).join('\n')}
    *' --socket' | *' --config' | *' --output')
      COMPREPLY=($(compgen -f -- "$current"))
      return
      ;;
    *)
      case "$path" in
${nodes.map(nodeCase).join('\n')}
      esac
      ;;
  esac
  COMPREPLY+=($(compgen -W "$words" -- "$current"))
}
# Readline takes a colon for the end of a word, and wants only what follows the last one.
_varve_layers() {
  local line="\${COMP_LINE:0:COMP_POINT}" name typed
  typed="\${line##* }"
  for name in $(varve completion layers 2>/dev/null); do
    [[ $name == "$typed"* ]] && COMPREPLY+=("\${name#"\${typed%"\${typed##*:}"}"}")
  done
}
complete -F _varve varve
`;
}

function valueCases({ path, options }: CompletionNode): string[] {
  return options
    .filter(option => option.choices.length > 0)
    .map(option => `    '${path} ${option.name}') words='${option.choices.join(' ')}' ;;`);
}

const argumentsOf = {
  volumes: '\n          [[ $current == -* ]] || words="$words $(varve completion names 2>/dev/null)"',
  layers: '\n          [[ $current == -* ]] || _varve_layers',
  files: '\n          [[ $current == -* ]] || COMPREPLY=($(compgen -f -- "$current"))',
};

function nodeCase({ path, subcommands, options, words, takes }: CompletionNode): string {
  const all = [...subcommands.map(({ name }) => name), ...words, ...options.map(({ name }) => name)];
  const names = takes === null ? '' : argumentsOf[takes];
  return `        '${path}')
          words='${all.join(' ')}'${names}
          ;;`;
}
