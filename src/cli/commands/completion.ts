import { Argument, type Command } from 'commander';
import type { AdminClient } from '../client.ts';
import { bashCompletion } from '../completion/bash.ts';
import { fishCompletion } from '../completion/fish.ts';
import { completionTree } from '../completion/tree.ts';
import { zshCompletion } from '../completion/zsh.ts';
import { connect } from '../connect.ts';
import { manual } from '../manual.ts';
import { printLine } from '../output.ts';

const scripts = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

const plain = /^\w[\w.:/@+-]*$/;

/** What the scripts ask for, each with a hidden subcommand. */
const names: Readonly<Record<string, (client: AdminClient) => Promise<readonly string[]>>> = {
  names: async client => (await client.volumes()).map(({ name }) => name),
  layers: async client => (await client.layers.list()).map(({ name }) => name),
};

/** `varve completion` */
export function completionCommand(program: Command): void {
  const command = program
    .command('completion')
    .description(
      'Print a script that completes the command line of `varve`, names of volumes and layers included.',
    )
    .addArgument(new Argument('<shell>', 'the shell to complete in').choices(Object.keys(scripts)))
    .action((shell: keyof typeof scripts) => printLine(scripts[shell](completionTree(program)).trimEnd()));
  for (const [kind, namesOf] of Object.entries(names)) {
    command.command(kind, { hidden: true }).action(async (_options, self: Command) => {
      // What is no plain name could be more than one word, or code, to a shell.
      for (const name of await namesOf(await connect(self))) if (plain.test(name)) printLine(name);
    });
  }
  manual(command, {
    examples: [
      ['eval "$(varve completion bash)"', 'in ~/.bashrc'],
      ['eval "$(varve completion zsh)"', 'in ~/.zshrc, after compinit'],
      ['varve completion fish > ~/.config/fish/completions/varve.fish', 'once'],
    ],
    exitCodes: ['ok', 'usage'],
  });
}
