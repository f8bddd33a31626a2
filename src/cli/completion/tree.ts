import type { Command } from 'commander';

/** What may follow one command, for the completion scripts. */
export interface CompletionNode {
  /** `varve volume ls` */
  readonly path: string;
  readonly subcommands: readonly Candidate[];
  readonly options: readonly CompletionOption[];
  /** Words that its argument may be. */
  readonly words: readonly string[];
  /** What its arguments are names of, if that can be looked up. */
  readonly takes: 'volumes' | 'layers' | 'files' | null;
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

/** By the names of arguments. */
const kinds: Readonly<Record<string, NonNullable<CompletionNode['takes']>>> = {
  volume: 'volumes',
  layer: 'layers',
  file: 'files',
};

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
    takes: command.registeredArguments.map(argument => kinds[argument.name()]).find(Boolean) ?? null,
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
