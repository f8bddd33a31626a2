import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import { onFirstEngine } from '../../support/engine.ts';
import { ImagePowerWorld } from '../../support/image-power-world.ts';
import { times } from '../../support/long.ts';
import type { FileSystem } from '../../support/power-cut-disk.ts';

const rounds = times(1, 10);

cutOn('ext4', 'apply');
onFirstEngine(() => cutOn('xfs', 'later'));

function cutOn(fileSystem: FileSystem, sync: 'apply' | 'later'): void {
  describe(`images of containerd in varve on ${fileSystem} with sync: ${sync}, and a power cut`, function () {
    this.timeout(120_000);
    let world: ImagePowerWorld;

    before(async () => {
      world = await ImagePowerWorld.open(fileSystem, sync);
    });
    after(() => world?.close());
    afterEach(() => world.removeAll());

    for (let round = 1; round <= rounds; round += 1) {
      it(`after imports have returned (${round}): ${sync === 'apply' ? 'every image is whole' : 'an image is whole, or refused as damaged until it is imported again'}`, async () => {
        for (const name of world.images) await world.import(name);
        await world.cutPower();
        const refused = await world.refused(world.images);
        if (sync === 'apply') expect(refused).to.deep.equal([]);
        await world.repair(refused);
      });

      it(`in the middle of an import (${round}): the next one succeeds, and what was there is as it was`, async () => {
        const [first = '', second = ''] = world.images;
        await world.import(first);
        const importing = world.host.containerd.tryCtr(
          ...['images', 'import', '--snapshotter', 'varve', world.archiveOf(second)],
        );
        const isAtWork = async () => (await world.host.list()).some(({ kind }) => kind === 'active');
        await until('a layer to be filled', 10_000, isAtWork);
        await world.cutPower();
        await importing;
        await world.repair(await world.refused([first]));
        await world.import(second);
        await world.repair(await world.refused([second]));
      });
    }
  });
}
