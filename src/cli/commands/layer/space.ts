import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Collected } from '../../../core/layers/view.ts';
import { connect } from '../../connect.ts';
import type { LayerClient } from '../../layer-client.ts';
import { collectedText, spaceText } from '../../layer-text.ts';
import { manual } from '../../manual.ts';
import { type Format, formatOption, print, progressBar } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { type StoreOptions, storeOption } from './options.ts';

/** `varve layer du` */
export function spaceCommand(layer: Command): void {
  const command = layer
    .command('du')
    .description(
      'Say for every byte which layer it belongs to and who needs it. Active layers are measured now, which reads every directory in them.',
    )
    .addOption(storeOption())
    .addOption(formatOption())
    .action(async ({ store, format }: StoreOptions & { format: Format }, self: Command) => {
      const { layers } = await connect(self);
      const spaces = await withProgress('Measuring active layers', () => layers.space({ store }));
      await print(format, spaces, all => all.map(spaceText).join('\n\n'));
    });
  manual(command, {
    examples: [
      ['varve layer du', 'own, shared, reclaimable and orphaned space'],
      ['varve layer du --format json', 'how many need each layer, and the first ten of them, for a program'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

/** `varve layer gc` */
export function garbageCommand(layer: Command): void {
  const command = layer
    .command('gc')
    .description(
      'Delete the files of removed layers now, which the daemon also does by itself, and let engines remove what they have leaked. Nothing else is ever deleted.',
    )
    .option('--dry-run', 'only say what would be deleted', false)
    .addOption(storeOption('all'))
    .addOption(formatOption())
    .action(
      async (
        { store, dryRun, format }: StoreOptions & { dryRun: boolean; format: Format },
        self: Command,
      ) => {
        const { layers } = await connect(self);
        const collected = dryRun
          ? await layers.collect({ store, dryRun })
          : await withProgress('Deleting removed layers', report => collect(layers, store, report));
        await print(format, collected, data => collectedText(data, { dryRun }));
      },
    );
  manual(command, {
    examples: [
      ['varve layer gc --dry-run', 'what it would delete, and how much space that gives back'],
      ['varve layer gc', 'when the space is needed now'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'unavailable', 'internal'],
  });
}

/** Deletes, and says meanwhile how much of it is gone. */
async function collect(
  layers: LayerClient,
  store: string | undefined,
  report: (text: string) => void,
): Promise<Collected> {
  const interval = 1000;
  const bytesOf = ({ items }: Collected) => items.reduce((sum, { usage }) => sum + usage.bytes, 0);
  const totalBytes = bytesOf(await layers.collect({ store, dryRun: true }));
  const stop = new AbortController();
  const work = layers.collect({ store, dryRun: false }).finally(() => stop.abort());
  const watch = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await delay(interval, undefined, { signal: stop.signal });
      const doneBytes = totalBytes - bytesOf(await layers.collect({ store, dryRun: true }));
      report(progressBar({ doneBytes: Math.max(0, doneBytes), totalBytes }));
    }
  };
  // What goes wrong is told by the work itself.
  await Promise.all([work, watch().catch(() => undefined)]);
  return work;
}
