import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../scripts/lib/wait.ts';
import { FailedPrecondition, NotFound } from '../../src/errors/errors.ts';
import {
  chmod,
  chown,
  directory,
  file,
  hardLink,
  randomBytes,
  readTree,
  remove,
  symbolicLink,
  type TreeChange,
} from '../support/layer-tree.ts';
import {
  commit,
  contents,
  type LayerExceptions,
  type LayerWorld,
  prepare,
  withMount,
} from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

/** Five layers that add, replace, delete and bring back each kind of thing. */
const chain: readonly (readonly TreeChange[])[] = [
  [
    ...[directory('/kept'), file('/kept/file', 'one'), directory('/replaced'), file('/replaced/old', 'one')],
    ...[file('/deleted', 'one'), file('/turns', 'a file'), hardLink('/kept/file', '/kept/link')],
    ...[directory('/full/of/files'), file('/full/of/files/x', 'one'), file('/mode', 'one')],
  ],
  [
    ...[file('/kept/two', 'two'), remove('/replaced'), directory('/replaced'), file('/replaced/new', 'two')],
    ...[remove('/turns'), directory('/turns'), file('/turns/inside', 'two'), chmod('/mode', 0o4711)],
  ],
  [
    ...[remove('/deleted'), file('/replaced/newer', 'three'), symbolicLink('file', '/kept/symlink')],
    ...[remove('/full'), chown('/mode', 7, 8)],
  ],
  [
    ...[file('/deleted', 'again'), remove('/kept/two'), remove('/turns'), symbolicLink('/kept', '/turns')],
    ...[directory('/full'), file('/full/new', 'four')],
  ],
  [file('/kept/file', 'five'), remove('/replaced/new'), directory('/full/of'), chmod('/kept', 0o700)],
];

const names = chain.map((_, index) => `L${index + 1}`);

/** A sequence that is the same in each run, and looks random. */
function shuffled<T>(items: readonly T[], seed: number): readonly T[] {
  const keyed = items.map((item, index) => ({
    item,
    key: randomBytes(4, seed * 100 + index).readUInt32LE(),
  }));
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
}

/** `merge`: chains stay short, and a removed snapshot gives its space back. */
export function layerMergeSuite(open: () => Promise<LayerWorld>, exceptions: LayerExceptions): void {
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  const makeChain = async (): Promise<Map<string, readonly string[]>> => {
    const seen = new Map<string, readonly string[]>();
    for (const [index, name] of names.entries()) {
      await commit(world, name, names[index - 1], chain[index]);
      seen.set(name, await contents(world, name, { times: true }));
    }
    return seen;
  };

  const expectSeen = async (seen: ReadonlyMap<string, readonly string[]>, when: string) => {
    for (const [name, tree] of seen) {
      expect(await contents(world, name, { times: true }), `${name} after ${when}`).to.deep.equal(tree);
    }
  };

  for (const [index, name] of names.slice(0, -1).entries()) {
    it(`folds layer ${index + 1} of 5 into the next one: every other shows what it did, to the time`, async () => {
      const seen = await makeChain();
      await world.store.merge(name);
      seen.delete(name);
      expect(await rejection(world.store.stat(name))).to.be.instanceOf(NotFound);
      const next = await world.store.stat(names[index + 1] ?? '');
      expect(next).to.include({ kind: 'committed', parent: names[index - 1] ?? null });
      await expectSeen(seen, `the merge of ${name}`);
      await world.reopen();
      await expectSeen(seen, 'a restart');
      for (const survivor of seen.keys()) {
        expect((await world.store.verify(survivor)).problems, survivor).to.deep.equal([]);
      }
    });
  }

  for (const seed of [1, 2, 3]) {
    it(`folds them all in random order (seed ${seed}), down to one`, async () => {
      const seen = await makeChain();
      for (const name of shuffled(names.slice(0, -1), seed)) {
        await world.store.merge(name);
        seen.delete(name);
        await expectSeen(seen, `the merge of ${name}, seed ${seed}`);
      }
      expect(await world.store.stat('L5')).to.include({ parent: null });
      expect(await world.store.cleanup()).to.deep.equal({ left: 0 });
      await expectSeen(seen, 'the clean-up');
      const changes = await world.store.changes(null, 'L5');
      expect(changes.every(({ kind }) => kind === 'added')).to.equal(true);
    });
  }

  it('is refused for a layer on which none or several rest, and for one that is not committed', async () => {
    const { store } = world;
    await commit(world, 'base', undefined, [file('/a', 'x')]);
    expect(await rejection(store.merge('base'))).to.be.instanceOf(FailedPrecondition);
    await commit(world, 'one', 'base', [file('/b', 'x')]);
    await store.prepare('two', { parent: 'base' });
    expect(await rejection(store.merge('base'))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(store.merge('two'))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(store.merge('none'))).to.be.instanceOf(NotFound);
    await store.remove('two');
    await store.merge('base');
    expect(await store.stat('one')).to.include({ parent: null });
  });

  const writing = exceptions.mergesInUse
    ? 'goes while somebody writes to the layer above, since that holds everything already'
    : 'is refused while somebody writes to the layer above, and then changes nothing';
  it(writing, async () => {
    const { store } = world;
    await commit(world, 'base', undefined, [file('/a', 'x')]);
    await withMount(world, await store.prepare('volume', { parent: 'base' }), async path => {
      if (exceptions.mergesInUse) await store.merge('base');
      else expect(await rejection(store.merge('base'))).to.be.instanceOf(FailedPrecondition);
      file('/b', 'y')(path);
    });
    const parent = exceptions.mergesInUse ? null : 'base';
    expect(await store.stat('volume')).to.include({ kind: 'active', parent });
    const paths = (await contents(world, 'volume')).map(line => line.split(' ')[0]);
    expect(paths).to.deep.equal(['/', '/a', '/b']);
  });

  it('who has the stack mounted keeps what it sees, and then all of it goes', async () => {
    const { store } = world;
    const seen = await makeChain();
    await withMount(world, await store.view('look', { parent: 'L5' }), async path => {
      for (const name of ['L2', 'L3']) await store.merge(name);
      await store.cleanup();
      expect(readTree(path, { times: true })).to.deep.equal(seen.get('L5'));
    });
    await store.remove('look');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
    expect(readdirSync(join(world.root, 'trash'))).to.deep.equal([]);
  });

  it('who has a container on the stack mounted keeps what it sees and writes', async () => {
    const { store } = world;
    await makeChain();
    await withMount(world, await store.prepare('container', { parent: 'L5' }), async path => {
      const before = readTree(path);
      await store.merge('L1');
      await store.merge('L3');
      await store.cleanup();
      expect(readTree(path)).to.deep.equal(before);
      file('/new', 'x')(path);
      file('/kept/file', 'container')(path);
    });
    const tree = await contents(world, 'container');
    expect(tree.some(line => line.startsWith('/new '))).to.equal(true);
    await store.commit('committed', 'container');
    expect(await contents(world, 'committed')).to.deep.equal(tree);
  });

  it('what both held is kept once, and the space of the other comes back', async () => {
    const { store } = world;
    const big = 8 << 20;
    await commit(world, 'base', undefined, [file('/file', randomBytes(big, 1))]);
    await prepare(world, 'key', { parent: 'base' }, [remove('/file'), file('/file', randomBytes(big, 2))]);
    await store.commit('top', 'key');
    const before = await world.usedBytes();
    await store.merge('base');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
    // What the file system has deleted it frees on its own time.
    await until(
      'the space to be free again',
      20_000,
      async () => before - (await world.usedBytes()) > big / 2,
    );
    expect((await store.usage('top')).bytes).to.be.within(big, big * 1.2);
  });
}
