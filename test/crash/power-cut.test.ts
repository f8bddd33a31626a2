import { times } from '../support/long.ts';
import { fileSystems } from '../support/power-cut-disk.ts';
import type { Step } from '../support/power-cut-volume.ts';
import { PowerCutWorld } from '../support/power-cut-world.ts';
import { newSeed, Random } from './random.ts';

const cuts = times(1, 20);
/** How many answers the clients get at least, and at most before they wait for the right one. */
const [fewest, most] = [150, 800];
const kinds: readonly Step['name'][] = ['create', 'copy', 'use', 'protect', 'unprotect', 'remove'];
const seed = newSeed();

for (const type of fileSystems) {
  describe(`the daemon on ${type}, its power cut ${cuts} times under its clients (VARVE_SEED=${seed})`, function () {
    this.timeout(30_000 + cuts * 30_000);
    let world: PowerCutWorld | undefined;
    const opened = async (): Promise<PowerCutWorld> => {
      world ??= await PowerCutWorld.open(type, seed);
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
      it(`keeps what it answered, cut at ${moment.at} after ${moment.after} answers to ${moment.clients}`, async () => {
        await (await opened()).cutOnce(moment);
      });
    }

    it('leaves nothing when every volume is removed', async () => {
      await (await opened()).cleanUp();
    });
  });
}
