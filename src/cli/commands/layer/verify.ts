import type { Command } from 'commander';
import { InvalidArgument, NotFound } from '../../../errors/errors.ts';
import { connect } from '../../connect.ts';
import type { LayerClient } from '../../layer-client.ts';
import { shortName } from '../../layer-name.ts';
import { type VerifiedLayer, verifiedText } from '../../layer-text.ts';
import { manual } from '../../manual.ts';
import { type Format, formatOption, print, progressBar } from '../../output.ts';
import { withProgress } from '../../progress.ts';
import { forEachName, reportFindings } from '../../report.ts';
import { layerArgument, type StoreOptions, storeOption } from './options.ts';

interface VerifyOptions extends StoreOptions {
  readonly all: boolean;
  readonly format: Format;
}

/** `varve layer verify` */
export function verifyCommand(layer: Command): void {
  const command = layer
    .command('verify')
    .description('Read committed layers again, and say which file is not as it was when the layer was made.')
    .argument('[layer...]', layerArgument)
    .option('--all', 'every committed layer', false)
    .addOption(storeOption())
    .addOption(formatOption())
    .action(async (names: string[], { all, store, format }: VerifyOptions, self: Command) => {
      if (names.length > 0 === all) {
        throw new InvalidArgument('name the layers to verify, or give --all and no name');
      }
      const { layers } = await connect(self);
      const wanted = all ? await committed(layers, store) : names.map(name => ({ name, store }));
      const done = await withProgress('Verifying', report => verifyEach(layers, wanted, all, report));
      // Of those that could not be verified the errors have told.
      if (all || done.length > 0 || format !== 'table') await print(format, done, verifiedText);
      if (done.some(({ problems }) => problems.length > 0)) reportFindings();
    });
  manual(command, {
    examples: [
      ['varve layer verify base app', 'two layers; the exit code is 1 when a file is wrong'],
      ['varve layer verify --all', 'all of them'],
    ],
    exitCodes: ['ok', 'failure', 'usage', 'notFound', 'conflict', 'unavailable', 'internal'],
  });
}

interface Wanted {
  readonly name: string;
  readonly store: string | undefined;
}

function committed(layers: LayerClient, store: string | undefined): Promise<readonly Wanted[]> {
  return layers.list({ store, filters: ['kind==committed'] });
}

async function verifyEach(
  layers: LayerClient,
  wanted: readonly Wanted[],
  mayBeGone: boolean,
  report: (text: string) => void,
): Promise<readonly VerifiedLayer[]> {
  const places = [...wanted.keys()].map(String);
  const done = await forEachName(places, async (_place, at): Promise<VerifiedLayer[]> => {
    const { name, store } = wanted[at] as Wanted;
    const title = `${at + 1} of ${wanted.length}: ${shortName(name)}`;
    report(title);
    try {
      const found = await layers.verify(name, { store }, progress =>
        report(`${title} ${progressBar(progress)}`),
      );
      return [{ name, ...found }];
    } catch (error) {
      // Somebody has removed it since the list was made.
      if (mayBeGone && error instanceof NotFound) return [];
      throw error;
    }
  });
  return done.flat();
}
