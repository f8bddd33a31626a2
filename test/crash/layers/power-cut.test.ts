import { times } from '../../support/long.ts';
import { fileSystems } from '../../support/power-cut-disk.ts';
import { newSeed, Random } from '../random.ts';
import type { Work } from './power-cut-work.ts';
import { LayerPowerWorld } from './power-cut-world.ts';

const cuts = times(1, 20);
/** How many answers the clients get at least, and at most before they wait for the right one. */
const [fewest, most] = [30, 120];
const kinds: readonly Work['step'][] = ['apply', 'commit', 'commit', 'freeze', 'merge', 'remove'];
const seed = newSeed();

for (const type of fileSystems) {
  describe(`a layer store on ${type}, its power cut ${cuts} times under its clients (VARVE_SEED=${seed})`, function () {
    this.timeout(60_000 + cuts * 60_000);
    let world: LayerPowerWorld | undefined;
    const opened = async (): Promise<LayerPowerWorld> => {
      world ??= await LayerPowerWorld.open(type);
      return world;
    };
    const close = async (): Promise<void> => {
      const open = world;
      world = undefined;
      await open?.close();
    };
    // What one cut has damaged is not looked at again after the next.
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') await close();
    });
    after(close);

    for (let cut = 1; cut <= cuts; cut += 1) {
      const random = new Random(seed + cut);
      const moment = {
        clients: random.pick([1, 2, 4]),
        after: fewest + random.below(most - fewest),
        at: random.pick(kinds),
      };
      it(`has every layer that was committed, cut at ${moment.at} after ${moment.after} answers to ${moment.clients}`, async () => {
        await (await opened()).cutOnce(moment, seed + cut);
      });
    }
  });
}
