import { expect } from 'chai';
import { faultPoints, killsAt } from '../../support/fault-points.ts';
import { layerSteps, type Operation, operationsOf, stepsOfFirstOpen } from './operations.ts';
import { LayerCrashWorld, type Observed } from './world.ts';

const patienceMs = 60_000;
const points = faultPoints().filter(point => layerSteps.has(stepOf(point)));
const passed = new Set<string>();

/** What a store shows before an operation and after it. */
interface Outcome {
  /** Undefined when the store was not open before. */
  readonly before: readonly Observed[] | undefined;
  readonly after: readonly Observed[];
}

for (const [driver, operations] of Object.entries(operationsOf)) {
  describe(`a layer store (${driver}), while one of its layers is mounted,`, function () {
    this.timeout(2 * patienceMs);
    let world: LayerCrashWorld | undefined;
    const outcomes = new Map<Operation, Outcome>();

    const opened = async (): Promise<LayerCrashWorld> => {
      world ??= await LayerCrashWorld.open(driver, driver === 'btrfs' ? 'btrfs' : 'ext4');
      return world;
    };
    const close = async (): Promise<void> => {
      const open = world;
      world = undefined;
      await open?.close();
    };
    afterEach(async function () {
      for (const point of world?.takeHits() ?? []) passed.add(point);
      if (this.currentTest?.state === 'failed') await close();
    });
    after(close);

    for (const [name, operation] of Object.entries(operations)) {
      const outcome = async (here: LayerCrashWorld): Promise<Outcome> => {
        const known = outcomes.get(operation) ?? (await learn(here, operation));
        outcomes.set(operation, known);
        return known;
      };
      for (const point of pointsOf(operation).filter(killsAt)) {
        it(`killed at ${point} of ${name} has done it wholly or not at all`, async () => {
          const here = await opened();
          await killAt(here, point, operation, await outcome(here));
        });
      }
      it(`failing at any point of ${name} has done it wholly or not at all, and goes on`, async () => {
        const here = await opened();
        const known = await outcome(here);
        for (const point of pointsOf(operation)) await failAt(here, point, operation, known);
        await here.restart();
        await here.expectTidy();
        await here.expectPeace();
      });
    }
  });
}

describe('the first start of a layer store', function () {
  this.timeout(patienceMs);
  let world: LayerCrashWorld | undefined;
  before(async () => {
    world = await LayerCrashWorld.open('overlay', 'ext4');
  });
  afterEach(() => {
    for (const point of world?.takeHits() ?? []) passed.add(point);
  });
  after(() => world?.close());

  for (const point of points.filter(each => stepsOfFirstOpen.includes(stepOf(each)))) {
    for (const action of ['kill', 'error'] as const) {
      it(`can be repeated after ${action} at ${point}`, async () => {
        if (world !== undefined) await startTwice(world, point, action);
      });
    }
  }
});

describe('all fault points of layer stores', () => {
  it('were passed by the scenarios above', () => {
    expect([...layerSteps].filter(step => !points.some(point => stepOf(point) === step))).to.deep.equal([]);
    expect(points.filter(point => !passed.has(point))).to.deep.equal([]);
  });
});

function stepOf(point: string): string {
  return point.replace(/:(before|after)$/, '');
}

function pointsOf({ steps }: Operation): readonly string[] {
  return steps.flatMap(step => [`${step}:before`, `${step}:after`]);
}

/** Does it without any fault. */
async function learn(world: LayerCrashWorld, operation: Operation): Promise<Outcome> {
  await operation.prepare?.(world);
  const before = operation.opens === undefined ? await world.observe() : undefined;
  world.takeHits();
  await operation.act(world);
  const hits = world.takeHits();
  for (const point of hits) passed.add(point);
  expect(
    pointsOf(operation).filter(point => !hits.has(point)),
    'points that it does not pass',
  ).to.deep.equal([]);
  const after = await world.observe();
  await operation.check?.(world);
  await world.expectNothingElse();
  return { before, after };
}

async function killAt(
  world: LayerCrashWorld,
  point: string,
  operation: Operation,
  outcome: Outcome,
): Promise<void> {
  await operation.prepare?.(world);
  world.faults({ [point]: 'kill' });
  const error = await failureOf(operation.act(world));
  world.faults({});
  expect(error?.name, `what ended it: ${error?.message}`).to.equal('Died');
  expect(await world.hasDied()).to.equal(true);
  if (operation.opens === undefined || operation.repeat === undefined) await world.restart();
  else await operation.repeat(world);
  await expectOneOf(world, operation, outcome);
  await finish(world, operation, outcome);
}

async function failAt(
  world: LayerCrashWorld,
  point: string,
  operation: Operation,
  outcome: Outcome,
): Promise<void> {
  await operation.prepare?.(world);
  world.faults({ [point]: 'error' });
  const error = await failureOf(operation.act(world));
  world.faults({});
  const hits = world.takeHits();
  expect(hits.has(point), `whether it came to ${point}: ${error?.message}`).to.equal(true);
  for (const hit of hits) passed.add(hit);
  if (operation.opens === undefined) {
    // The daemon does this now and then: it finishes what can be finished.
    await world.store.cleanup();
    await expectOneOf(world, operation, outcome);
  } else {
    await (operation.repeat ?? operation.act)(world);
  }
  expect(await world.observe(), `what there is in the end, after ${point}`).to.deep.equal(outcome.after);
  await operation.check?.(world);
  await world.removeAll();
}

/** Interrupts the first start with a directory, and starts again. */
async function startTwice(world: LayerCrashWorld, point: string, action: 'kill' | 'error'): Promise<void> {
  const name = `first ${point} ${action}`;
  await world.replaceProcess();
  world.faults({ [point]: action });
  const error = await failureOf(world.openAnother(name));
  world.faults({});
  expect(error?.name).to.equal(action === 'kill' ? 'Died' : 'Internal');
  if (action === 'kill') await world.replaceProcess();
  await world.openAnother(name);
  await world.store.prepare('key');
  await world.store.commit('layer', 'key');
  await world.restart();
  expect((await world.observe()).map(each => each.name)).to.deep.equal(['layer']);
  await world.store.remove('layer');
  await world.expectTidy();
}

/** Does it again when it has not happened. */
async function expectOneOf(
  world: LayerCrashWorld,
  operation: Operation,
  { before, after }: Outcome,
): Promise<void> {
  const found = await world.observe();
  const isHalf = operation.leavesHalf === true && found.some(({ damage }) => damage !== null);
  if (!isHalf)
    expect(before === undefined ? [after] : [before, after], 'before and after').to.deep.include(found);
  if (isDeepEqual(found, after) && !isDeepEqual(before, after)) return;
  await (operation.repeat ?? operation.act)(world);
}

async function finish(world: LayerCrashWorld, operation: Operation, { after }: Outcome): Promise<void> {
  expect(await world.observe(), 'what there is in the end').to.deep.equal(after);
  await operation.check?.(world);
  await world.expectPeace();
  await world.expectNothingElse();
}

function isDeepEqual(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

async function failureOf(act: Promise<unknown>): Promise<Error | undefined> {
  return await act.then(
    () => undefined,
    (error: Error) => error,
  );
}
