import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { times } from '../support/long.ts';
import { Client } from './client.ts';
import { newSeed, Random } from './random.ts';
import { World } from './world.ts';

const crashes = times(20, 200);
/** The most that the clients do between a start and the next crash. */
const longestRun = 60;
const seed = newSeed();

describe(`the daemon under three clients, killed ${crashes} times at random moments (VARVE_SEED=${seed})`, function () {
  this.timeout(60_000 + crashes * 6_000);
  let world: World;
  before(async () => {
    world = await World.open();
  });
  after(() => world?.close());

  it('keeps what it answered, disturbs no container, and leaves nothing', async () => {
    const random = new Random(seed);
    const clients = [1, 2, 3].map(
      number => new Client([world.newVolume(), world.newVolume()], new Random(seed + number)),
    );
    await world.explain(async () => {
      for (let crash = 1; crash <= crashes; crash += 1) await crashOnce(world, clients, random);
      for (const client of clients) await client.cleanUp();
      await world.expectPeace();
      await world.expectNothingElse();
    });
    for (const { steps } of clients) expect(steps, 'things that a client did').to.be.greaterThan(crashes);
  });
});

async function crashOnce(world: World, clients: readonly Client[], random: Random): Promise<void> {
  const done = (): number => clients.reduce((sum, { steps }) => sum + steps, 0);
  const goal = done() + random.below(longestRun);
  const working = Promise.all(clients.map(client => client.work()));
  // What ends the clients before their time is thrown here.
  await Promise.race([working, until(`the clients to do ${goal} things`, 20_000, () => done() >= goal)]);
  await world.daemon.kill9();
  await working;
  await world.daemon.start();
  await world.bystander.check();
  for (const client of clients) await client.expectWhatWasAnswered();
  await world.expectPeace();
}
