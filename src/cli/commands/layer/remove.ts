import type { Command } from 'commander';
import { connect } from '../../connect.ts';
import { manual } from '../../manual.ts';
import { printLine } from '../../output.ts';
import { forEachName } from '../../report.ts';
import { type StoreOptions, storeOption } from './options.ts';

/** `varve layer rm` */
export function removeCommand(layer: Command): void {
  const command = layer
    .command('rm')
    .description(
      'Remove layers, for good. One that others rest on is refused. Layers that an engine made are removed by the engine: docker rmi, docker rm.',
    )
    .argument('<layer...>', 'names of layers in full, or 12 digits or more of a digest')
    .addOption(storeOption())
    .action(async (names: string[], { store }: StoreOptions, self: Command) => {
      const { layers } = await connect(self);
      for (const name of await forEachName(names, name => layers.remove(name, { store }).then(() => name))) {
        printLine(name);
      }
    });
  manual(command, {
    examples: [['varve layer rm app base', 'the upper one first; prints the name of each that is gone']],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}
