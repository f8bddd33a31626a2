import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { faultPoints, killsAt, pointsOf } from '../support/fault-points.ts';
import { times } from '../support/long.ts';
import { isGraphStep } from './layers/graph-operations.ts';
import { layerSteps } from './layers/operations.ts';
import { type Operation, operationsOf, stepsOfFirstStart, stepsOfRebuild } from './operations.ts';
import { rebuildTwice, startTwice } from './starts.ts';
import { expectRemoved, type TestVolume } from './test-volume.ts';
import { World } from './world.ts';

/** What a client does whose answer was lost: it asks again, at once or when all is well again, or goes away. */
const clients = ['gone', 'impatient', 'patient'] as const;
type Client = (typeof clients)[number];
const rounds = times(1, 5);
/** Layer stores and graph drivers have suites of their own, which pass theirs. */
const points = faultPoints().filter(point => !layerSteps.has(stepOf(point)) && !isGraphStep(point));
const passed = new Set<string>();

const scenarios = points.flatMap(point => {
  const operations = operationsOf[stepOf(point)] ?? {};
  return Object.entries(operations).map(([name, operation]) => ({ point, name, operation }));
});

describe('fault points', () => {
  it('are found in the source by the names that the program gives them', () => {
    const text = `import { step as act, stepSync, gate, faultPoint } from '../lib/fault.ts';
      await act('a', () => stepSync('b', work)); await gate('c'); faultPoint('d'); faultPoint(\`e.\${f}\`);`;
    expect(pointsOf('x.ts', text)).to.deep.equal(['a:before', 'a:after', 'b:before', 'b:after', 'c', 'd']);
    expect(pointsOf('x.ts', "import { step } from './tree.ts'; step(name);")).to.deep.equal([]);
    expect(() => pointsOf('x.ts', "import { step } from './lib/fault.ts';\nstep(name);")).to.throw('x.ts:2:');
  });

  it('each have an operation that passes them', () => {
    const known = [...Object.keys(operationsOf), ...stepsOfFirstStart, ...stepsOfRebuild];
    expect([...new Set(points.map(stepOf))].filter(step => !known.includes(step))).to.deep.equal([]);
    expect(known.filter(step => !points.some(point => stepOf(point) === step))).to.deep.equal([]);
  });
});

describe('the daemon, while a container writes to a volume,', function () {
  this.timeout(120_000);
  let world: World | undefined;

  const opened = async (): Promise<World> => {
    world ??= await World.open();
    return world;
  };
  const close = async (): Promise<void> => {
    await world?.close();
    world = undefined;
  };
  afterEach(async function () {
    if (world !== undefined) takeHits(world.daemon.directory, world.daemon.hits());
    if (this.currentTest?.state === 'failed') await close();
  });
  after(close);

  for (let round = 1; round <= rounds; round += 1) {
    const again = round === 1 ? '' : `, time ${round}`;
    const clientIn = (point: string): Client =>
      clients[(round + (point.endsWith(':after') ? 1 : 0)) % 3] as Client;
    for (const { point, name, operation } of scenarios.filter(({ point: at }) => killsAt(at))) {
      it(`killed at ${point} of ${name} finishes or undoes it${again}`, async () => {
        const here = await opened();
        await here.explain(() => killAt(here, point, operation, clientIn(point)));
      });
    }
  }

  for (const { point, name, operation } of scenarios) {
    it(`failing at ${point} of ${name} leaves nothing half done`, async () => {
      const here = await opened();
      await here.explain(() => failAt(here, point, operation));
    });
  }
});

for (const [what, steps, interrupt] of [
  ['the first start on an empty root', stepsOfFirstStart, startTwice],
  ['state rebuild of a damaged database', stepsOfRebuild, rebuildTwice],
] as const) {
  describe(what, function () {
    this.timeout(30_000);
    for (const point of points.filter(name => steps.includes(stepOf(name)))) {
      for (const action of ['kill', 'error'] as const) {
        it(`can be repeated after ${action} at ${point}`, async () => {
          for (const name of await interrupt(point, action)) passed.add(name);
        });
      }
    }
  });
}

describe('all fault points', () => {
  it('were passed by the scenarios above', () => {
    expect(points.filter(point => !passed.has(point))).to.deep.equal([]);
  });
});

async function killAt(world: World, point: string, operation: Operation, client: Client): Promise<void> {
  const volume = world.newVolume();
  const { daemon } = world;
  await operation.prepare?.(volume, world);
  daemon.faults({ [point]: 'kill' });
  const answer = operation.act(volume, world).catch(() => undefined);
  // Some are reached by way of the engine, which waits 15 s for the dead plugin of another test.
  await until(`the daemon to be killed at ${point}`, 60_000, () => !isAlive(daemon.pid));
  expect((await daemon.ended()).signal).to.equal('SIGKILL');
  daemon.faults({});
  await daemon.start();
  await answer;
  await world.bystander.check();
  if (client === 'patient' && operation.heals !== false) await world.expectPeace();
  if (client !== 'gone' || operation.heals === false) await operation.repeat(volume, world);
  await world.expectPeace();
  await cleanUp(world, volume, operation);
}

async function failAt(world: World, point: string, operation: Operation): Promise<void> {
  const volume = world.newVolume();
  const { daemon } = world;
  await operation.prepare?.(volume, world);
  takeHits(daemon.directory, daemon.hits());
  daemon.faults({ [point]: 'error' });
  await operation.act(volume, world).catch(() => undefined);
  await until(`${point} to be passed`, 60_000, () => daemon.hits().has(point));
  daemon.faults({});
  if (!isAlive(daemon.pid)) await daemon.start();
  await operation.repeat(volume, world);
  await world.expectPeace();
  await cleanUp(world, volume, operation);
}

async function cleanUp(world: World, volume: TestVolume, operation: Operation): Promise<void> {
  const exists = (await world.daemon.plugin('VolumeDriver.Get', { Name: volume.name })).status === 200;
  if (exists) await operation.finish?.(volume, world);
  expectRemoved(await volume.remove());
  await world.expectNothingElse();
}

/** Notes which points were passed, and forgets them in the daemon's own list. */
function takeHits(directory: string, hits: ReadonlySet<string>): void {
  for (const point of hits) passed.add(point);
  rmSync(join(directory, 'faults.hits'), { force: true });
}

function stepOf(point: string): string {
  return point.replace(/:(before|after)$/, '');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
