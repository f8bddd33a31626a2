import type { Command } from 'commander';
import { connect } from '../../connect.ts';
import { type Charset, treeText } from '../../layer-tree.ts';
import { manual } from '../../manual.ts';
import { type Format, formatOption, print } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { type StoreOptions, storeOption } from './options.ts';

/** `varve layer tree` */
export function treeCommand(layer: Command): void {
  const command = layer
    .command('tree')
    .description(
      'Draw which layer rests on which, with the own space of each. Active layers are measured now, which reads every directory in them.',
    )
    .addOption(storeOption())
    .addOption(formatOption())
    .action(async ({ store, format }: StoreOptions & { format: Format }, self: Command) => {
      const { layers } = await connect(self);
      const spaces = await withProgress('Measuring active layers', () => layers.space({ store }));
      await print(format, spaces, all => all.map(space => treeText(space, charset())).join('\n\n'));
    });
  manual(command, {
    examples: [
      ['varve layer tree', 'the bottom layer first; what rests on it below'],
      ['varve layer tree --store default', 'one store'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

/** Lines where a terminal is known to show them (locale(7)), plain characters elsewhere. */
function charset(): Charset {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  const isUtf8 = /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
  return process.stdout.isTTY && isUtf8 ? 'utf8' : 'ascii';
}
