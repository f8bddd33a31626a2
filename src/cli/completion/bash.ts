import type { CompletionNode } from './tree.ts';

/** The completion script for bash; it needs nothing but bash. */
export function bashCompletion(nodes: readonly CompletionNode[]): string {
  const paths = nodes.slice(1).map(node => `'${node.path}'`);
  return `# bash completion for varve: eval "$(varve completion bash)"
_varve() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" path=varve words='' at
  for ((at = 1; at < COMP_CWORD; at++)); do
    case "$path \${COMP_WORDS[at]}" in
      ${paths.join(' | ')}) path="$path \${COMP_WORDS[at]}" ;;
    esac
  done
  case "$path $previous" in
${nodes.flatMap(valueCases).join('\n')}
    *' --socket' | *' --config')
      COMPREPLY=($(compgen -f -- "$current"))
      return
      ;;
    *)
      case "$path" in
${nodes.map(nodeCase).join('\n')}
      esac
      ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _varve varve
`;
}

function valueCases({ path, options }: CompletionNode): string[] {
  return options
    .filter(option => option.choices.length > 0)
    .map(option => `    '${path} ${option.name}') words='${option.choices.join(' ')}' ;;`);
}

function nodeCase({ path, subcommands, options, words, takesVolumes }: CompletionNode): string {
  const all = [...subcommands.map(({ name }) => name), ...words, ...options.map(({ name }) => name)];
  const volumes = takesVolumes
    ? `\n          [[ $current == -* ]] || words="$words $(varve completion names 2>/dev/null)"`
    : '';
  return `        '${path}')
          words='${all.join(' ')}'${volumes}
          ;;`;
}
