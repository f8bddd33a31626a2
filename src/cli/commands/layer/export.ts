import { once } from 'node:events';
import { type Command, Option } from 'commander';
import { formatBytes } from '../../../core/quantity.ts';
import { InvalidArgument } from '../../../errors/errors.ts';
import { connect } from '../../connect.ts';
import { manual } from '../../manual.ts';
import { progressBar } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { writeWhole } from '../../whole-file.ts';
import { layerArgument, type StoreOptions, storeOption } from './options.ts';

interface ExportOptions extends StoreOptions {
  readonly base?: string;
  readonly original?: true;
  readonly output?: string;
}

/** `varve layer export` */
export function exportCommand(layer: Command): void {
  const command = layer
    .command('export')
    .description(
      'Write what a layer changes as an uncompressed tar archive of the OCI image specification, the same to the byte each time. A file appears whole or not at all.',
    )
    .argument('<layer>', layerArgument)
    .option('-o, --output <file>', 'the file to write (default: the standard output)')
    .option('--base <layer>', 'compare with this layer; with "" write everything (default: its parent)')
    .addOption(
      new Option(
        '--original',
        'write the archive that the layer was imported from, to the byte, uncompressed',
      ).conflicts('base'),
    )
    .addOption(storeOption())
    .action(async (name: string, options: ExportOptions, self: Command) => {
      const { store, base, original, output } = options;
      if (output === undefined && process.stdout.isTTY) {
        throw new InvalidArgument('an archive is nothing to read on a terminal; name a file with -o');
      }
      const { layers } = await connect(self);
      const pieces = original
        ? await layers.original(name, { store })
        : await layers.export(name, { store, base });
      if (output === undefined) return toStandardOutput(pieces);
      const totalBytes = base === undefined ? await expectedBytes() : 0;
      await withProgress(`Exporting to ${output}`, report =>
        writeWhole(output, counted(pieces, totalBytes, report)),
      );

      async function expectedBytes(): Promise<number> {
        return (await layers.details(name, { store })).usage?.bytes ?? 0;
      }
    });
  manual(command, {
    examples: [
      ['varve layer export app -o app.tar', 'what it adds to its parent, for `varve layer import` elsewhere'],
      ['varve layer export app --base "" -o rootfs.tar', 'everything that a container would see'],
      ['varve layer export app | zstd > app.tar.zst', 'compressed'],
      ['varve layer export app --original | sha256sum', 'what was imported; its digest is the DiffID'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

async function toStandardOutput(pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const piece of pieces) {
    if (!process.stdout.write(piece)) await once(process.stdout, 'drain');
  }
}

/** @param totalBytes about as many as will come; 0 when nobody knows */
async function* counted(
  pieces: AsyncIterable<Uint8Array>,
  totalBytes: number,
  report: (text: string) => void,
): AsyncGenerator<Uint8Array> {
  let doneBytes = 0;
  for await (const piece of pieces) {
    yield piece;
    doneBytes += piece.length;
    report(totalBytes === 0 ? formatBytes(doneBytes) : progressBar({ doneBytes, totalBytes }));
  }
}
