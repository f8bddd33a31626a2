import { expect } from 'chai';
import { faultPoints, killsAt } from '../../support/fault-points.ts';
import { graphOperations, isGraphStep } from './graph-operations.ts';
import { GraphCrashWorld } from './graph-world.ts';

describe('a daemon as a graph driver', function () {
  this.timeout(60_000);
  let world: GraphCrashWorld | undefined;
  const passed = new Set<string>();

  afterEach(async function () {
    for (const point of world?.daemon.hits() ?? []) passed.add(point);
    if (this.currentTest?.state === 'failed') await close();
  });
  after(close);

  async function close(): Promise<void> {
    await world?.daemon.dispose();
    world = undefined;
  }

  for (const [name, { prepare, act, check, steps }] of Object.entries(graphOperations)) {
    for (const point of steps.flatMap(step => [`${step}:before`, `${step}:after`]).filter(killsAt)) {
      it(`S4 killed at ${point} of ${name} has done it wholly or not at all`, async () => {
        world ??= await GraphCrashWorld.open();
        await world.fill();
        await prepare?.(world);
        await world.dieAt(point, act);
        await world.expectRealMounts();
        await check(world);
        await world.clear();
      });
    }
  }

  it('passed all of its fault points above', () => {
    const points = faultPoints().filter(isGraphStep);
    expect(points).to.have.length.greaterThan(0);
    expect(points.filter(point => !passed.has(point))).to.deep.equal([]);
  });
});
