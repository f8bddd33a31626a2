import { expect } from 'chai';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import { InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import { type LayerRecordsWorld, namesIn } from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

const gcRoot = 'containerd.io/gc.root';
const keys = ['c1', 'c2', 'a1', 'a2', 'v1', 'v2'];

async function populate(store: LayerStore): Promise<void> {
  await store.prepare('c1-a');
  await store.commit('c1', 'c1-a');
  await store.prepare('c2-a', { parent: 'c1' });
  await store.commit('c2', 'c2-a');
  await store.prepare('a1', { parent: 'c2' });
  await store.prepare('a2');
  await store.view('v1', { parent: 'c2' });
  await store.view('v2');
}

/** Labels, and what else changes in a layer's record: containerd's `Update` for each kind of layer. */
export function layerLabelSuite(open: () => Promise<LayerRecordsWorld>): void {
  let world: LayerRecordsWorld;
  let store: LayerStore;

  beforeEach(async () => {
    world = await open();
    store = world.store;
    await populate(store);
  });

  afterEach(() => world.close());

  it('Update: a layer is as new as it says, and not changed yet', async () => {
    for (const key of keys) {
      const { createdAt, updatedAt } = await store.stat(key);
      expect(updatedAt, key).to.equal(createdAt);
      expect(new Date(createdAt).toISOString(), key).to.equal(createdAt);
    }
  });

  it('Update: without a mask replaces all labels and nothing else, whatever the change says', async () => {
    const labels = { l1: 'v1', l2: 'v2', l3: 'v3', [gcRoot]: 'now' };
    for (const key of keys) {
      const before = await store.stat(key);
      const change = { ...before, parent: 'doesnotexist', kind: 'view', createdAt: 'never', labels } as const;
      const after = await store.update(change);
      expect(after).to.deep.equal({ ...before, labels, updatedAt: after.updatedAt });
      expect(Date.parse(after.updatedAt)).to.be.at.least(Date.parse(before.updatedAt));
      expect(await store.stat(key)).to.deep.equal(after);
    }
  });

  it('Update: `labels.NAME` sets or deletes that one, and `labels` replaces all', async () => {
    for (const name of keys) {
      await store.update({ name, labels: { l1: 'v1', l2: 'v2', l3: 'v3', [gcRoot]: 'now' } });
      const some = await store.update({ name, labels: { l1: 'updated', l4: 'v4' } }, [
        'labels.l1',
        'labels.l2',
      ]);
      expect(some.labels).to.deep.equal({ l1: 'updated', l3: 'v3', [gcRoot]: 'now' });
      const dotted = await store.update({ name, labels: { [gcRoot]: 'later' } }, [`labels.${gcRoot}`]);
      expect(dotted.labels).to.deep.equal({ l1: 'updated', l3: 'v3', [gcRoot]: 'later' });
      const replaced = await store.update({ name, labels: { l4: 'v4' } }, ['labels']);
      expect(replaced.labels).to.deep.equal({ l4: 'v4' });
    }
    for (const name of keys) {
      expect(await (await world.reopen()).stat(name)).to.have.deep.property('labels', { l4: 'v4' });
    }
  });

  it('Update: refuses every other field in a mask, and then changes nothing', async () => {
    await store.update({ name: 'a1', labels: { l1: 'v1' } });
    for (const field of ['parent', 'name', 'kind', 'created_at', 'Labels', 'labelsl1', '']) {
      const update = store.update({ name: 'a1', labels: { l1: 'x' } }, ['labels.l1', field]);
      expect(await rejection(update), field).to.be.instanceOf(InvalidArgument);
    }
    expect(await store.stat('a1')).to.have.deep.property('labels', { l1: 'v1' });
  });

  it('Update: an empty mask is none', async () => {
    await store.update({ name: 'a1', labels: { l1: 'v1' } });
    expect(await store.update({ name: 'a1', labels: { l2: 'v2' } }, [])).to.have.deep.property('labels', {
      l2: 'v2',
    });
  });

  it('Update: there is no layer to change', async () => {
    expect(await rejection(store.update({ name: 'none', labels: {} }))).to.be.instanceOf(NotFound);
  });

  it('many updates at one time all count', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `l${index}`);
    await Promise.all(
      names.map(name => store.update({ name: 'a1', labels: { [name]: 'x' } }, [`labels.${name}`])),
    );
    expect(Object.keys((await store.stat('a1')).labels)).to.have.members(names);
  });

  it('labels may be called like what every object has', async () => {
    const labels = JSON.parse('{"__proto__": "a", "constructor": "b", "toString": "c"}');
    await store.prepare('odd', { labels });
    store = await world.reopen();
    expect(JSON.stringify((await store.stat('odd')).labels)).to.equal(JSON.stringify(labels));
    const mask = ['labels.__proto__', 'labels.constructor'];
    const after = await store.update({ name: 'odd', labels: JSON.parse('{"__proto__": "new"}') }, mask);
    expect(JSON.stringify(after.labels)).to.equal('{"__proto__":"new","toString":"c"}');
    const found = await namesIn(store, 'labels.__proto__');
    expect(found).to.deep.equal(['odd']);
  });

  it('a label is text, has a name, and is at most 4096 bytes with it', async () => {
    const bad = [{ '': 'x' }, { a: 1 as unknown as string }, { a: 'x'.repeat(4096) }];
    for (const labels of bad) {
      expect(await rejection(store.prepare('new', { labels }))).to.be.instanceOf(InvalidArgument);
      expect(await rejection(store.update({ name: 'a1', labels }))).to.be.instanceOf(InvalidArgument);
      expect(await rejection(store.commit('new', 'a2', { labels }))).to.be.instanceOf(InvalidArgument);
    }
    expect(await rejection(store.stat('new'))).to.be.instanceOf(NotFound);
    expect(await store.stat('a2')).to.have.property('kind', 'active');
    await store.prepare('new', { labels: { a: 'x'.repeat(4095) } });
  });

  it('a commit is a creation, with labels of its own', async () => {
    await store.update({ name: 'a1', labels: { of: 'the active one' } });
    const active = await store.stat('a1');
    await store.commit('plain', 'a1');
    const plain = await store.stat('plain');
    expect(plain.labels).to.deep.equal({});
    expect(plain.updatedAt).to.equal(plain.createdAt);
    expect(Date.parse(plain.createdAt)).to.be.at.least(Date.parse(active.updatedAt));
    await store.commit('labelled', 'a2', { labels: { of: 'the commit' } });
    expect((await store.stat('labelled')).labels).to.deep.equal({ of: 'the commit' });
  });

  it('usage is frozen at the commit, and nothing that happens later changes it', async () => {
    const { usage } = await store.stat('c2');
    expect(usage).to.have.keys('bytes', 'inodes');
    expect(await store.stat('a1')).to.include({ usage: null });
    expect(await store.stat('v1')).to.include({ usage: null });
    await store.update({ name: 'c2', labels: { l: 'v' } });
    store = await world.reopen();
    expect(await store.usage('c2')).to.deep.equal(usage);
    expect(await store.stat('c2')).to.have.deep.property('usage', usage);
    expect(await store.usage('a1')).to.have.keys('bytes', 'inodes');
    expect(await rejection(store.usage('none'))).to.be.instanceOf(NotFound);
  });
}
