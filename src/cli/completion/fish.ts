import type { CompletionNode, CompletionOption } from './tree.ts';

/** The completion script for fish. */
export function fishCompletion(nodes: readonly CompletionNode[]): string {
  const paths = nodes.slice(1).map(node => quote(node.path));
  return `# fish completion for varve: varve completion fish | source
function __varve_line
  set -l line varve
  for word in (commandline -opc)[2..-1]
    switch "$line $word"
      case ${paths.join(' ')}
        set line "$line $word"
    end
  end
  echo $line
end
complete -c varve -f
${nodes.flatMap(completions).join('\n')}
`;
}

function completions(node: CompletionNode): string[] {
  const here = `complete -c varve -n 'test (__varve_line) = "${node.path}"'`;
  return [
    ...node.subcommands.map(({ name, description }) => `${here} -a ${name} -d ${quote(description)}`),
    ...node.words.map(word => `${here} -a ${word}`),
    ...node.options.map(option => `${here} ${flags(option)} -d ${quote(option.description)}`),
    ...(node.takes === null ? [] : [`${here} ${argumentsOf[node.takes]}`]),
  ];
}

const argumentsOf = {
  volumes: "-a '(varve completion names 2>/dev/null)'",
  layers: "-a '(varve completion layers 2>/dev/null)'",
  files: '-F',
};

function flags({ names, takesValue, choices }: CompletionOption): string {
  const spelled = names.map(name => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  if (!takesValue) return spelled.join(' ');
  return [...spelled, ...(choices.length > 0 ? ['-x', '-a', quote(choices.join(' '))] : ['-r', '-F'])].join(
    ' ',
  );
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
