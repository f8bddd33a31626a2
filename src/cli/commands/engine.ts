import { Argument, type Command } from 'commander';
import type { EngineName } from '../../core/engine-setup/view.ts';
import { InvalidArgument } from '../../errors/errors.ts';
import { loadComposition } from '../composition.ts';
import { printedSetup, reportsText, setupText } from '../engine-text.ts';
import { manual } from '../manual.ts';
import { type Format, formatOption, print, printLine } from '../output.ts';
import { reportFindings } from '../report.ts';
import { configOf } from '../settings.ts';

interface SetupOptions {
  readonly name: string;
  readonly program?: string;
  readonly file?: string;
  readonly print: boolean;
  readonly restart: boolean;
}

/** `varve engine` */
export function engineCommand(program: Command): void {
  const engine = program
    .command('engine')
    .description('Make a container engine keep its images and containers on varve, and say whether it does.');
  manual(engine, {
    examples: [
      ['varve engine setup docker', 'write what Docker has to read'],
      ['varve engine check', 'whether the engines of this host use varve'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
  addSetup(engine);
  addCheck(engine);
}

const engines: readonly EngineName[] = ['containerd', 'docker'];

function addSetup(engine: Command): void {
  const command = engine
    .command('setup')
    .description(
      'Write the configuration with which an engine stores on varve, after its own program has read it. What else is in its files stays, and a copy of a file that changes is kept. The daemon need not run; the engine is not restarted.',
    )
    .addArgument(new Argument('<engine>', 'which one').choices(engines))
    .option('--print', 'print the files, and write nothing', false)
    .option('--name <name>', 'snapshotter or driver of the configuration of varve', 'varve')
    .option(
      '--file <path>',
      "the engine's configuration (default: that of the running one, else the usual one)",
    )
    .option('--program <path>', 'containerd or dockerd (default: the running one, else the first in PATH)')
    .option('--restart', 'restart the engine afterwards', false)
    .action(async (name: EngineName, options: SetupOptions, self: Command) => {
      if (options.print && options.restart) {
        throw new InvalidArgument(
          '--print writes nothing, and so there is nothing to restart for; give one of them',
        );
      }
      const { config } = configOf(self);
      const { setUpEngine } = await loadComposition();
      const setup = await setUpEngine(config, { ...options, engine: name });
      printLine(options.print ? printedSetup(setup) : setupText(setup));
      if (setup.lines.length > 0 && !options.print) reportFindings();
    });
  manual(command, {
    examples: [
      ['varve engine setup containerd --print', 'what it would write, and where'],
      ['varve engine setup containerd', 'the exit code is 1 when there is a line left to add by hand'],
      ['varve engine setup docker --restart', 'and restart docker'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'internal'],
  });
}

function addCheck(engine: Command): void {
  const command = engine
    .command('check')
    .description(
      'Ask the engines of this host whether they store on varve, through which socket, and what is missing. Exit code 1 when one of them does not, or none answers.',
    )
    .addArgument(new Argument('[engine]', 'only this one').choices(engines))
    .addOption(formatOption())
    .action(async (only: EngineName | undefined, { format }: { format: Format }, self: Command) => {
      const { config } = configOf(self);
      const { checkEngines } = await loadComposition();
      const reports = await checkEngines(config, only);
      await print(format, reports, reportsText);
      const reachable = reports.filter(report => report.reachable);
      if (reachable.length === 0 || reachable.some(report => !report.usesVarve)) reportFindings();
    });
  manual(command, {
    examples: [
      ['varve engine check', 'every engine of the configuration'],
      ['varve engine check docker', 'only Docker'],
      ['varve engine check --format json', 'the same for a program'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'internal'],
  });
}
