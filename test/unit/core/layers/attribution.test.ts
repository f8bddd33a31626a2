import { expect } from 'chai';
import { attribute, totalsOf } from '../../../../src/core/layers/attribution.ts';
import type { LayerInfo } from '../../../../src/core/layers/layer-store.ts';
import { FakeLayerStore, trash } from '../../../support/fake-layer-store.ts';

describe('the attribution of space', () => {
  /** Layers given as `name<parent: bytes`, `!` before one that is damaged. */
  const attributed = (...texts: readonly string[]) => {
    const store = new FakeLayerStore();
    const measured = texts.map(text => {
      const [, damaged, name = '', parent, bytes] = /^(!?)(\w+)(?:<(\w+))?: (\d+|-)$/.exec(text) ?? [];
      store.add(name, { parent: parent ?? null, damage: damaged === '!' ? 'files are missing' : null });
      const usage = bytes === '-' ? null : { bytes: Number(bytes), inodes: 1 };
      return { info: store.infos.get(name) as LayerInfo, usage };
    });
    return attribute(measured);
  };
  const shares = (...texts: readonly string[]) =>
    attributed(...texts).map(({ name, share, neededBy }) => `${name} ${share}: ${neededBy.first.join(' ')}`);

  it('gives a layer on which several rest to all of them, and any other to one', () => {
    expect(shares('base: 1', 'a<base: 1', 'b<base: 1', 'c<b: 1', 'alone: 1')).to.deep.equal([
      'base shared: a c',
      'a own: a',
      'b own: c',
      'c own: c',
      'alone own: alone',
    ]);
  });

  it('puts each layer right below the one it rests on, the oldest first', () => {
    const names = attributed('x: 1', 'y: 1', 'x1<x: 1', 'y1<y: 1', 'x2<x: 1', 'x11<x1: 1');
    expect(names.map(({ name }) => name)).to.deep.equal(['x', 'x1', 'x11', 'x2', 'y', 'y1']);
  });

  it('takes a layer whose parent is not there for a bottom one', () => {
    expect(shares('a<gone: 1')).to.deep.equal(['a own: a']);
  });

  it('adds up to all there is, each byte once', () => {
    const layers = attributed('base: 100', 'a<base: 10', 'b<base: 20', '!bad: 5', 'new<b: -');
    const draft = { ...trash(9, 1), kind: 'draft' } as const;
    const unrecorded = { ...trash(10, 3), kind: 'unrecorded' } as const;
    expect(totalsOf(layers, [trash(8, 7), draft, unrecorded])).to.deep.equal({
      own: 30,
      shared: 100,
      reclaimable: 13,
      orphaned: 3,
      total: 146,
      unshared: 230,
    });
  });

  it('counts a damaged layer that others rest on as reclaimable, and them as their own', () => {
    const layers = attributed('!base: 100', 'a<base: 10', 'b<base: 20');
    expect(totalsOf(layers, [])).to.include({ own: 30, shared: 0, reclaimable: 100, total: 130 });
  });

  it('needs no stack for a high one', () => {
    const texts = Array.from({ length: 20_000 }, (_, at) => (at === 0 ? 'l0: 1' : `l${at}<l${at - 1}: 1`));
    expect(attributed(...texts).every(({ neededBy }) => neededBy.first[0] === 'l19999')).to.equal(true);
  });

  it('counts those who need a layer, and names the first ten', () => {
    const stack = Array.from({ length: 100 }, (_, at) => (at === 0 ? 'l0: 1' : `l${at}<l${at - 1}: 1`));
    const containers = Array.from({ length: 10_000 }, (_, at) => `c${at}<l99: 1`);
    const layers = attributed(...stack, ...containers);
    expect(layers[0]?.neededBy).to.deep.equal({
      count: 10_000,
      first: ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8', 'c9'],
    });
    expect(layers[0]?.share).to.equal('shared');
    const more = Array.from({ length: 10 }, (_, at) => `d${at}<side: 1`);
    const [base] = attributed('base: 1', 'middle<base: 1', 'side<base: 1', 'top<middle: 1', ...more);
    expect(base?.neededBy.count).to.equal(11);
    expect(base?.neededBy.first).to.have.length(10);
    expect(totalsOf(layers, []).unshared).to.equal(10_000 * 101);
    expect(JSON.stringify(layers).length).to.be.below(3 * 1024 ** 2);
  });
});
