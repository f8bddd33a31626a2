import type { Command } from 'commander';

/** What may follow one command, for the completion scripts. */
export interface CompletionNode {
  /** `varve volume ls` */
  readonly path: string;
  readonly subcommands: readonly Candidate[];
  readonly options: readonly CompletionOption[];
  /** Words that its argument may be. */
  readonly words: readonly string[];
  /** Whether its arguments are names of existing volumes. */
  readonly takesVolumes: boolean;
}

export interface Candidate {
  readonly name: string;
  readonly description: string;
}

export interface CompletionOption extends Candidate {
  /** `--format`, and `-f` where there is one. */
  readonly names: readonly string[];
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** Every command of the tree, parents first. Options of the program apply to each. */
export function completionTree(
  command: Command,
  parents: readonly Command[] = [],
): readonly CompletionNode[] {
  const line = [...parents, command];
  const visible = command.createHelp().visibleCommands(command);
  const subcommands = visible.map(child => ({
    name: child.name(),
    description: firstSentence(child.description()),
  }));
  const node: CompletionNode = {
    path: line.map(part => part.name()).join(' '),
    subcommands,
    options: line.flatMap(optionsOf),
    words: command.registeredArguments.flatMap(argument => argument.argChoices ?? []),
    takesVolumes: command.registeredArguments.some(argument => argument.name() === 'volume'),
  };
  return [
    node,
    ...visible.filter(child => child.name() !== 'help').flatMap(child => completionTree(child, line)),
  ];
}

function optionsOf(command: Command): CompletionOption[] {
  const visible = command.createHelp().visibleOptions(command);
  return visible
    .map(option => ({
      name: option.long ?? option.short ?? '',
      names: [option.long, option.short].filter(name => name !== undefined),
      description: option.description,
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    }))
    .filter((option, at, all) => all.findIndex(other => other.name === option.name) === at);
}

function firstSentence(text: string): string {
  return text.split(/\.(?:\s|$)/)[0] ?? text;
}
