import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { formatBytes } from '../../../core/quantity.ts';
import { InvalidArgument } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { connect } from '../../connect.ts';
import { manual } from '../../manual.ts';
import { printable, printLine, progressBar } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { type StoreOptions, storeOption } from './options.ts';

interface ImportOptions extends StoreOptions {
  readonly name?: string;
  readonly parent?: string;
}

/** `varve layer import` */
export function importCommand(layer: Command): void {
  const command = layer
    .command('import')
    .description(
      'Make a committed layer of a tar archive, plain or compressed with gzip or zstd, and print its name. Without --name that is its digest: sha256 of the uncompressed archive, over a parent the ChainID of the OCI image specification.',
    )
    .argument('<file>', 'the archive, - for the standard input')
    .option('--name <name>', 'name of the layer')
    .option('--parent <layer>', 'the layer that it rests on, or the beginning of its name')
    .addOption(storeOption('default'))
    .action(async (file: string, { store, name, parent }: ImportOptions, self: Command) => {
      const { layers } = await connect(self);
      const made = await withProgress(`Importing ${file}`, async report => {
        const archive = counted(await open(file), report);
        return layers.import(archive, { store, name, parent });
      });
      printLine(printable(made.name));
    });
  manual(command, {
    examples: [
      ['varve layer import rootfs.tar.gz --name base', 'a bottom layer'],
      ['varve layer import app.tar.zst --name app --parent base', 'a layer over it'],
      ['docker export c1 | varve layer import -', 'from another program; prints the digest'],
    ],
    exitCodes: ['ok', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

interface Source {
  readonly bytes: AsyncIterable<Buffer>;
  /** Null when nobody knows. */
  readonly totalBytes: number | null;
}

/** @throws NotFound, FailedPrecondition; InvalidArgument when a person would have to type the archive */
async function open(file: string): Promise<Source> {
  if (file !== '-') {
    const action = `read ${file}`;
    const found = await stat(file).catch((error: unknown) => {
      throw fromNodeError(error, action);
    });
    const bytes = createReadStream(file, { highWaterMark: 1024 ** 2 });
    return { bytes: readable(bytes, action), totalBytes: found.isFile() ? found.size : null };
  }
  if (process.stdin.isTTY) {
    throw new InvalidArgument('the standard input is a terminal and no archive; name a file, or pipe one in');
  }
  return { bytes: readable(process.stdin, 'read the standard input'), totalBytes: null };
}

async function* readable(stream: AsyncIterable<Buffer>, action: string): AsyncGenerator<Buffer> {
  try {
    yield* stream;
  } catch (error) {
    throw fromNodeError(error, action);
  }
}

async function* counted(
  { bytes, totalBytes }: Source,
  report: (text: string) => void,
): AsyncGenerator<Buffer> {
  const show = (doneBytes: number) =>
    report(totalBytes === null ? formatBytes(doneBytes) : progressBar({ doneBytes, totalBytes }));
  let doneBytes = 0;
  for await (const piece of bytes) {
    show(doneBytes);
    yield piece;
    doneBytes += piece.length;
  }
  report('Bringing it to the disk');
}
