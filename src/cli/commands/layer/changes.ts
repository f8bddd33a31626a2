import type { Command } from 'commander';
import type { LayerChange } from '../../../core/layers/layer-store.ts';
import { connect } from '../../connect.ts';
import { changesText } from '../../layer-text.ts';
import { manual } from '../../manual.ts';
import { type Format, formatOption, print } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { layerArgument, type StoreOptions, storeOption } from './options.ts';

interface ChangesOptions extends StoreOptions {
  readonly base?: string;
  readonly format: Format;
}

/** `varve layer changes` */
export function changesCommand(layer: Command): void {
  const command = layer
    .command('changes')
    .description('List the paths that a layer adds, modifies and deletes, with the sizes of files.')
    .argument('<layer>', layerArgument)
    .option('--base <layer>', 'compare with this layer; with "" list everything (default: its parent)')
    .addOption(storeOption())
    .addOption(formatOption())
    .action((name: string, options: ChangesOptions, self: Command) => show(name, options, self));
  manual(command, {
    examples: [
      ['varve layer changes container-1', 'what a container wrote, as `docker diff` shows it'],
      ['varve layer changes app --base base', 'what is different from a layer further down'],
      ['varve layer changes app --base ""', 'every path that a container would see'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

/** `varve layer diff` */
export function diffCommand(layer: Command): void {
  const command = layer
    .command('diff')
    .description('List the paths that differ from one layer to another, whatever lies between them.')
    .argument('<layer>', 'the one before')
    .argument('<layer>', 'the one after')
    .addOption(storeOption())
    .addOption(formatOption())
    .action((base: string, name: string, options: ChangesOptions, self: Command) =>
      show(name, { ...options, base }, self),
    );
  manual(command, {
    examples: [
      ['varve layer diff app-1 app-2', 'from version 1 to version 2'],
      ['varve layer diff app-1 app-2 --format json', 'the same for a program'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

async function show(name: string, { base, store, format }: ChangesOptions, self: Command): Promise<void> {
  const { layers } = await connect(self);
  const changes = await withProgress<readonly LayerChange[]>('Comparing', () =>
    layers.changes(name, { store, base }),
  );
  await print(format, changes, changesText);
}
