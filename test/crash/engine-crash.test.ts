import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { bystanderName } from './bystander.ts';
import { expectRemoved, TestVolume } from './test-volume.ts';
import { World } from './world.ts';

/** How both come back, after both were killed. */
const orders: Readonly<Record<string, (world: World) => Promise<void>>> = {
  'varve, then dockerd': async ({ daemon, engine }) => {
    await daemon.start();
    await engine.restart();
  },
  'dockerd, then varve': async ({ daemon, engine }) => {
    const logged = readFileSync(engine.log).length;
    const restarted = engine.restart();
    await until('dockerd to start', 20_000, () => readFileSync(engine.log).length > logged);
    await daemon.start();
    await restarted;
  },
};

for (const [order, comeBack] of Object.entries(orders)) {
  describe(`dockerd and varve, killed together and started again: ${order}`, function () {
    this.timeout(120_000);
    let world: World | undefined;
    afterEach(async () => {
      await world?.close();
      world = undefined;
    });

    it('a container that is started again has its data, and nothing is left of the first one', async () => {
      const here = await World.open();
      world = here;
      await here.explain(async () => {
        await crash(here);
        await comeBack(here);
        await here.bystander.restart();
        await here.expectPeace();
        await endAll(here);
      });
    });

    it('a container that lives on (live-restore) never notices', async () => {
      const here = await World.open('--live-restore');
      world = here;
      await here.explain(async () => {
        await here.bystander.check();
        await crash(here);
        await comeBack(here);
        await here.expectPeace();
        await endAll(here);
      });
    });
  });
}

async function crash({ engine, daemon }: World): Promise<void> {
  await Promise.all([engine.kill9(), daemon.kill9()]);
}

/** Ends the container and removes its volume: nothing may be in the way, and nothing may stay. */
async function endAll(world: World): Promise<void> {
  await world.bystander.stop();
  const { exitCode, stderr } = await world.engine.docker('volume', 'rm', bystanderName);
  expect(exitCode, stderr).to.equal(0);
  expectRemoved(await new TestVolume(world.daemon, bystanderName).remove());
  await world.expectNothingElse();
}
