import { expect } from 'chai';
import type { LayerKind, LayerStore } from '../../src/core/layers/layer-store.ts';
import { AlreadyExists, FailedPrecondition, InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import { collect, type LayerRecordsWorld } from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';
import { layerFilterSuite } from './layer-filters.ts';
import { layerKeySuite } from './layer-keys.ts';
import { layerLabelSuite } from './layer-labels.ts';

/** What the cases of containerd's MetaStore begin with, in the order in which it is made. */
const base: readonly { readonly name: string; readonly kind: LayerKind; readonly parent: string | null }[] = [
  { name: 'committed-1', kind: 'committed', parent: null },
  { name: 'committed-2', kind: 'committed', parent: 'committed-1' },
  { name: 'active-1', kind: 'active', parent: null },
  { name: 'active-2', kind: 'active', parent: 'committed-1' },
  { name: 'active-3', kind: 'active', parent: 'committed-2' },
  { name: 'view-1', kind: 'view', parent: null },
  { name: 'view-2', kind: 'view', parent: 'committed-2' },
];

async function populate(store: LayerStore): Promise<void> {
  for (const { name, kind, parent } of base) {
    const options = parent === null ? {} : { parent };
    if (kind === 'view') await store.view(name, options);
    else await store.prepare(kind === 'active' ? name : `${name}-tmp`, options);
    if (kind === 'committed') await store.commit(name, `${name}-tmp`);
  }
}

/**
 * What every {@link LayerStore} knows of its layers: the cases of containerd's MetaStore by their names
 * (core/snapshots/storage/metastore_test.go), filters, labels and keys.
 * @param many how many layers a list is tried with
 */
export function layerMetadataSuite(open: () => Promise<LayerRecordsWorld>, many: number): void {
  describe('MetaStore', () => metaStoreSuite(open));
  describe('filters', () => layerFilterSuite(open));
  describe('labels', () => layerLabelSuite(open));
  describe('keys', () => layerKeySuite(open, many));
}

function metaStoreSuite(open: () => Promise<LayerRecordsWorld>): void {
  let world: LayerRecordsWorld;
  let store: LayerStore;
  const refused = async (promise: Promise<unknown>, type: new (message: string) => Error) =>
    expect(await rejection(promise)).to.be.instanceOf(type);

  beforeEach(async () => {
    world = await open();
    store = world.store;
  });

  afterEach(() => world.close());

  it('GetInfo', async () => {
    await populate(store);
    for (const expected of base) expect(await store.stat(expected.name)).to.deep.include(expected);
  });

  it('GetInfoNotExist', async () => {
    await populate(store);
    await refused(store.stat('active-not-exist'), NotFound);
  });

  it('GetInfoEmptyDB', () => refused(store.stat('active-1'), NotFound));

  it('Walk', async () => {
    await populate(store);
    const found = (await collect(store.walk())).map(({ name, kind, parent }) => ({ name, kind, parent }));
    expect(found).to.have.deep.members(base);
  });

  it('GetSnapshot: the mounts of an active layer and of a view stay the same', async () => {
    await store.prepare('tmp');
    await store.commit('committed-1', 'tmp');
    const made = new Map([
      ['active-1', await store.prepare('active-1')],
      ['active-2', await store.prepare('active-2', { parent: 'committed-1' })],
      ['view-1', await store.view('view-1')],
      ['view-2', await store.view('view-2', { parent: 'committed-1' })],
    ]);
    for (const [key, mounts] of made) {
      expect(mounts, key).not.to.have.length(0);
      expect(await store.mounts(key), key).to.deep.equal(mounts);
    }
    const again = await world.reopen();
    for (const [key, mounts] of made) expect(await again.mounts(key), key).to.deep.equal(mounts);
  });

  it('GetSnapshotNotExist', async () => {
    await populate(store);
    await refused(store.mounts('active-not-exist'), NotFound);
  });

  it('GetSnapshotCommitted', async () => {
    await populate(store);
    await refused(store.mounts('committed-1'), FailedPrecondition);
  });

  it('GetSnapshotEmptyDB', () => refused(store.mounts('active-1'), NotFound));

  it('CreateActive', async () => {
    await store.prepare('active-1');
    await store.view('view-1');
    const first = await store.stat('active-1');
    await store.commit('committed-1', 'active-1');
    const committed = await store.stat('committed-1');
    expect(committed.number, 'the number must not change on commit').to.equal(first.number);
    await store.prepare('active-3', { parent: 'committed-1' });
    await store.view('view-2', { parent: 'committed-1' });
    const numbers = (await collect(store.walk())).map(({ number }) => number);
    expect(new Set(numbers).size, 'numbers are unique').to.equal(4);
  });

  it('CreateActiveNotExist', async () => {
    await refused(store.prepare('active-1', { parent: 'does-not-exist' }), NotFound);
    await refused(store.view('view-1', { parent: 'does-not-exist' }), NotFound);
    expect(await collect(store.walk())).to.deep.equal([]);
  });

  it('CreateActiveExist', async () => {
    await populate(store);
    for (const { name } of base) {
      await refused(store.prepare(name), AlreadyExists);
      await refused(store.view(name, { parent: 'committed-1' }), AlreadyExists);
    }
  });

  it('CreateActiveFromActive, nor from a view', async () => {
    await populate(store);
    for (const parent of ['active-1', 'view-1', 'view-2']) {
      await refused(store.prepare('active-new', { parent }), InvalidArgument);
      await refused(store.view('view-new', { parent }), InvalidArgument);
    }
  });

  it('Commit', async () => {
    await store.prepare('active-1');
    await store.commit('committed-1', 'active-1');
    await refused(store.mounts('active-1'), NotFound);
    await refused(store.stat('active-1'), NotFound);
    await refused(store.mounts('committed-1'), FailedPrecondition);
  });

  it('CommitNotExist', async () => {
    await refused(store.commit('committed-1', 'active-1'), NotFound);
    await refused(store.stat('committed-1'), NotFound);
  });

  it('CommitExist', async () => {
    await populate(store);
    for (const name of ['committed-1', 'active-2', 'view-1', 'active-1']) {
      await refused(store.commit(name, 'active-1'), AlreadyExists);
    }
    expect(await store.stat('active-1')).to.include({ kind: 'active' });
  });

  it('CommitCommitted', async () => {
    await populate(store);
    await refused(store.commit('committed-3', 'committed-1'), FailedPrecondition);
  });

  it('CommitViewFails', async () => {
    await populate(store);
    await refused(store.commit('committed-3', 'view-1'), FailedPrecondition);
    await refused(store.commit('committed-3', 'view-2'), FailedPrecondition);
  });

  it('Remove', async () => {
    await store.prepare('active-1');
    await store.commit('committed-1', 'active-1');
    await store.view('view-1', { parent: 'committed-1' });
    await store.view('view-2', { parent: 'committed-1' });
    await refused(store.remove('active-1'), NotFound);
    for (const key of ['view-2', 'view-1', 'committed-1']) {
      await store.remove(key);
      await refused(store.stat(key), NotFound);
    }
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('RemoveNotExist', () => refused(store.remove('does-not-exist'), NotFound));

  it('RemoveWithChildren', async () => {
    await populate(store);
    for (const name of ['committed-1', 'committed-2', 'committed-1']) {
      await refused(store.remove(name), FailedPrecondition);
    }
    expect(await collect(store.walk())).to.have.length(base.length);
  });

  it('ParentIDs', async () => {
    await populate(store);
    const depths = { 'committed-1': 0, 'committed-2': 1, 'active-1': 0, 'active-3': 2, 'view-2': 2 };
    for (const [name, depth] of Object.entries(depths)) {
      const stack = [await store.stat(name)];
      for (let next = stack[0]?.parent; next; next = stack.at(-1)?.parent) stack.push(await store.stat(next));
      expect(stack, name).to.have.length(depth + 1);
    }
  });

  it('Rebase: not offered, a layer is committed on the parent that it was prepared on', async () => {
    await populate(store);
    await store.commit('committed-3', 'active-2', { parent: 'committed-2' } as object);
    expect(await store.stat('committed-3')).to.include({ parent: 'committed-1' });
  });

  it('all of it is there after a restart, to the last field', async () => {
    await populate(store);
    await store.update({ name: 'view-2', labels: { key: 'value' } });
    await store.remove('active-3');
    const before = await collect(store.walk());
    expect(await collect((await world.reopen()).walk())).to.deep.equal(before);
  });

  it('a number is never given twice, also after a restart', async () => {
    await store.prepare('first');
    await store.prepare('second');
    const { number } = await store.stat('second');
    await store.remove('second');
    await store.cleanup();
    store = await world.reopen();
    await store.prepare('second');
    expect((await store.stat('second')).number).to.be.greaterThan(number);
  });

  it('of several calls for one name at a time, one wins', async () => {
    await store.prepare('active-1');
    await store.prepare('active-2');
    const wins = async (calls: readonly Promise<unknown>[]) =>
      (await Promise.allSettled(calls)).filter(({ status }) => status === 'fulfilled').length;
    expect(await wins(['a', 'a', 'a'].map(key => store.prepare(key)))).to.equal(1);
    expect(await wins(['active-1', 'active-2'].map(key => store.commit('name', key)))).to.equal(1);
    const names = (await collect(store.walk())).map(({ name }) => name);
    expect(names).to.include('name').and.to.have.length(3);
    expect(await wins([store.commit('one', 'a'), store.commit('two', 'a'), store.remove('a')])).to.equal(1);
  });

  it('nothing rests on a layer that is removed at the same time', async () => {
    for (let round = 0; round < 5; round += 1) {
      await store.prepare('tmp');
      await store.commit('parent', 'tmp');
      await Promise.allSettled([
        store.prepare('child', { parent: 'parent' }),
        store.remove('parent'),
        store.view('look', { parent: 'parent' }),
      ]);
      const layers = await collect(store.walk());
      const names = layers.map(({ name }) => name);
      for (const { parent } of layers) if (parent !== null) expect(names).to.include(parent);
      for (const name of names.filter(each => each !== 'parent')) await store.remove(name);
      if (names.includes('parent')) await store.remove('parent');
    }
  });
}
