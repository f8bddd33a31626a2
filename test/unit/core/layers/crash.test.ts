import { expect } from 'chai';
import type { LayerStore } from '../../../../src/core/layers/layer-store.ts';
import type { Layers } from '../../../../src/core/layers/store.ts';
import { collect } from '../../../support/layer-world.ts';
import { MemoryLayerDisk } from '../../../support/memory-layer-disk.ts';
import { archiveOfLines, MemoryLayerWorld } from '../../../support/memory-layer-world.ts';
import { PowerCut } from '../../../support/power.ts';

/** What can be under way when the daemon dies. */
const operations: Readonly<Record<string, Act>> = {
  prepare: store => store.prepare('new', { parent: 'top' }),
  'prepare with a limit': store => store.prepare('new', { limit: { bytes: 1000 } }),
  view: store => store.view('new', { parent: 'top' }),
  commit: store => store.commit('new', 'active'),
  'commit without sync': store => store.commit('new', 'active', { sync: false }),
  sync: store => store.sync(),
  freeze: store => store.freeze('active', 'new'),
  merge: store => store.merge('middle'),
  'merge of the lowest': store => store.merge('base'),
  remove: store => store.remove('view'),
  update: store => store.update({ name: 'active', labels: { l: 'v' } }),
  apply: store => store.apply('active', archiveOfLines('e', 'f')),
  limit: store => store.limit('active', { bytes: 700 }),
  cleanup: store => store.cleanup(),
};

async function populate(store: LayerStore): Promise<void> {
  const commit = async (name: string, parent: string | undefined, ...lines: readonly string[]) => {
    await store.prepare('key', parent === undefined ? {} : { parent });
    await store.apply('key', archiveOfLines(...lines));
    await store.commit(name, 'key');
  };
  await commit('base', undefined, 'a');
  await commit('middle', 'base', 'b');
  await commit('top', 'middle', 'c');
  await store.prepare('active', { parent: 'top', limit: { bytes: 500 } });
  await store.apply('active', archiveOfLines('d'));
  await store.view('view', { parent: 'top' });
  await store.prepare('old');
  await store.remove('old');
}

/** All that a caller can see of a store; numbers and times differ from run to run. */
async function observe(store: LayerStore) {
  const layers = [];
  for (const { number: _, createdAt: _created, updatedAt: _updated, ...info } of await collect(
    store.walk(),
  )) {
    const shown = info.damage === null ? await store.changes(null, info.name) : [];
    layers.push({ ...info, shown: shown.map(({ path }) => path) });
  }
  return layers.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function expectTidy({ disk, store }: MemoryLayerWorld): Promise<void> {
  await store.cleanup();
  const { layers, drafts } = await disk.found();
  const numbers = (await collect(store.walk())).map(({ number }) => number);
  expect(drafts, 'drafts').to.deep.equal([]);
  expect(layers, 'layers on the disk').to.deep.equal(numbers.sort((a, b) => a - b));
  expect(await disk.strays([])).to.deep.equal([]);
}

type Act = (store: Layers) => Promise<unknown>;

async function openPopulated(freezesAside: boolean): Promise<MemoryLayerWorld> {
  const disk = new MemoryLayerDisk();
  disk.freezesAside = freezesAside;
  const world = new MemoryLayerWorld(disk);
  await populate(await world.reopen());
  return world;
}

/** Lets the daemon die after so many half steps of an operation. @returns whether it came to its end before */
async function dieAfter(steps: number, world: MemoryLayerWorld, act: Act): Promise<boolean> {
  world.power.cutAfter(steps);
  try {
    await act(world.store);
    return true;
  } catch (error) {
    expect(error).to.be.instanceOf(PowerCut);
    return false;
  }
}

/** Of an archive a part may have been applied, and then the layer says so. */
function isHalf(layers: Awaited<ReturnType<typeof observe>>): boolean {
  return layers.find(({ name }) => name === 'active')?.damage !== null;
}

async function dieAtAnyMoment(freezesAside: boolean, act: Act): Promise<void> {
  const whole = await openPopulated(freezesAside);
  const before = await observe(whole.store);
  await act(whole.store);
  const after = await observe(await whole.reopen());
  for (let steps = 0, isDone = false; !isDone; steps += 1) {
    const world = await openPopulated(freezesAside);
    isDone = await dieAfter(steps, world, act);
    const found = await observe(await world.reopen());
    if (isDone) expect(found, 'it was acknowledged').to.deep.equal(after);
    else if (!isHalf(found)) expect([before, after], `after ${steps} half steps`).to.deep.include(found);
    await expectTidy(world);
  }
}

describe('a layer store whose daemon dies', () => {
  for (const [name, act] of Object.entries(operations)) {
    it(`at any moment of ${name}: all or nothing has happened, and nothing is left`, () =>
      dieAtAnyMoment(false, act));
  }

  it('at any moment of freeze, where the frozen layer is the new one', () =>
    dieAtAnyMoment(true, store => store.freeze('active', 'new')));
});
