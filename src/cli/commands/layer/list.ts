import type { Command } from 'commander';
import { connect } from '../../connect.ts';
import { layersText } from '../../layer-text.ts';
import { manual } from '../../manual.ts';
import { type Format, formatOption, print, printable, printLine } from '../../output.ts';
import { forEachName } from '../../report.ts';
import { layerArgument, type StoreOptions, storeOption } from './options.ts';

interface ListOptions extends StoreOptions {
  readonly quiet: boolean;
  readonly filter: readonly string[];
  readonly format: Format;
}

/** `varve layer ls` */
export function listCommand(layer: Command): void {
  const command = layer
    .command('ls')
    .description(
      'List layers. Own space is that of a layer alone; active layers are measured by `du` and `tree`.',
    )
    .option('-q, --quiet', 'only names, in full', false)
    .option(
      '--filter <filter>',
      "only what it fits, as containerd's filters do; repeatable, then one of them has to fit",
      (filter: string, before: readonly string[]) => [...before, filter],
      [],
    )
    .addOption(storeOption())
    .addOption(formatOption())
    .action(async ({ store, quiet, filter, format }: ListOptions, self: Command) => {
      const layers = await (await connect(self)).layers.list({ store, filters: filter });
      if (!quiet) await print(format, layers, list => layersText(list, new Date()));
      else for (const { name } of layers) printLine(printable(name));
    });
  manual(command, {
    examples: [
      ['varve layer ls', 'every layer of every store'],
      ['varve layer ls --filter kind==active', 'only writable ones'],
      [`varve layer ls --filter 'labels."containerd.io/gc.root"'`, 'only those that have the label'],
      ['varve layer ls --format json', 'everything, for a program'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

/** `varve layer inspect` */
export function inspectCommand(layer: Command): void {
  const command = layer
    .command('inspect')
    .description(
      'Print everything that is known of layers, what they rest on and what rests on them, as JSON.',
    )
    .argument('<layer...>', layerArgument)
    .addOption(storeOption())
    .addOption(formatOption(['json', 'yaml']))
    .action(async (names: string[], { store, format }: StoreOptions & { format: Format }, self: Command) => {
      const { layers } = await connect(self);
      await print(format, await forEachName(names, name => layers.details(name, { store })), () => '');
    });
  manual(command, {
    examples: [
      ['varve layer inspect base', 'one layer, in a list of one'],
      ['varve layer inspect sha256:5f70bf18a086 --format yaml', 'the beginning of a name is enough'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}
