import { Argument, type Command } from 'commander';
import { bashCompletion } from '../completion/bash.ts';
import { fishCompletion } from '../completion/fish.ts';
import { completionTree } from '../completion/tree.ts';
import { zshCompletion } from '../completion/zsh.ts';
import { connect } from '../connect.ts';
import { manual } from '../manual.ts';
import { printLine } from '../output.ts';

const scripts = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

/** `varve completion`; its hidden subcommand `names` is what the scripts ask for the names of volumes. */
export function completionCommand(program: Command): void {
  const command = program
    .command('completion')
    .description('Print a script that completes the command line of `varve`, names of volumes included.')
    .addArgument(new Argument('<shell>', 'the shell to complete in').choices(Object.keys(scripts)))
    .action((shell: keyof typeof scripts) => printLine(scripts[shell](completionTree(program)).trimEnd()));
  command.command('names', { hidden: true }).action(async (_options, self: Command) => {
    const volumes = await (await connect(self)).volumes();
    // What is no plain name could be more than one word, or code, to a shell.
    for (const { name } of volumes) if (/^\w[\w.-]*$/.test(name)) printLine(name);
  });
  manual(command, {
    examples: [
      ['eval "$(varve completion bash)"', 'in ~/.bashrc'],
      ['eval "$(varve completion zsh)"', 'in ~/.zshrc, after compinit'],
      ['varve completion fish > ~/.config/fish/completions/varve.fish', 'once'],
    ],
    exitCodes: ['ok', 'usage'],
  });
}
