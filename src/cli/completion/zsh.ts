import type { Candidate, CompletionNode } from './tree.ts';

/** The completion script for zsh, to be evaluated or put into a directory of `fpath` as `_varve`. */
export function zshCompletion(nodes: readonly CompletionNode[]): string {
  const paths = nodes.slice(1).map(node => quote(node.path));
  return `#compdef varve
# zsh completion for varve: eval "$(varve completion zsh)"
_varve() {
  local line=varve word
  local -a arguments options
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$line $word" in
      (${paths.join('|')}) line="$line $word" ;;
    esac
  done
  case "$line \${words[CURRENT-1]}" in
${nodes.flatMap(valueCases).join('\n')}
    (*' --socket'|*' --config'|*' --output'|*' -o') _files; return ;;
  esac
  case "$line" in
${nodes.map(nodeCase).join('\n')}
  esac
  (( $#arguments )) && _describe argument arguments
  _describe -o option options
}
if [[ "\${funcstack[1]}" == _varve ]]; then
  _varve "$@"
else
  compdef _varve varve
fi
`;
}

function valueCases({ path, options }: CompletionNode): string[] {
  return options
    .filter(option => option.choices.length > 0)
    .map(
      option => `    (${quote(`${path} ${option.name}`)}) compadd -- ${option.choices.join(' ')}; return ;;`,
    );
}

const argumentsOf = {
  volumes: 'compadd -- $(varve completion names 2>/dev/null); ',
  layers: 'compadd -- $(varve completion layers 2>/dev/null); ',
  files: '_files; ',
};

function nodeCase({ path, subcommands, options, words, takes }: CompletionNode): string {
  const plain = [...subcommands, ...words.map(name => ({ name, description: '' }))];
  const names = takes === null ? '' : argumentsOf[takes];
  return `    (${quote(path)}) ${names}arguments=(${candidates(plain)}) options=(${candidates(options)}) ;;`;
}

function candidates(all: readonly Candidate[]): string {
  return all
    .map(({ name, description }) => quote(description === '' ? name : `${name}:${description}`))
    .join(' ');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
