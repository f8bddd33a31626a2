import type { Command } from 'commander';
import { type ExitCodeName, exitCodes } from '../errors/to-exit-code.ts';

export interface Manual {
  /** Command lines, each with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  readonly exitCodes: readonly ExitCodeName[];
}

/** Adds what a manual page has besides the usage: examples and exit codes. */
export function manual(command: Command, page: Manual): Command {
  const width = Math.max(...page.examples.map(([line]) => line.length));
  const examples = page.examples.map(([line, what]) => `  ${line.padEnd(width)}  ${what}`);
  const codes = page.exitCodes.map(
    name => `  ${String(exitCodes[name].code).padEnd(2)}  ${exitCodes[name].meaning}`,
  );
  return command.addHelpText('after', ['', 'Examples:', ...examples, '', 'Exit codes:', ...codes].join('\n'));
}
