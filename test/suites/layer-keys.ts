import { expect } from 'chai';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import { InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import { type LayerRecordsWorld, namesIn } from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

/** Each is a key like any other. */
const odd: Readonly<Record<string, string>> = {
  'a slash': 'moby/42/sha256:abc',
  'slashes only': '///',
  'a space and a colon': 'extract-123-xyz sha256:abc',
  'the directory above': '..',
  'a way out': '../../../etc/passwd',
  'a dot': '.',
  'an absolute path': '/etc/passwd',
  'a draft': 'new-1',
  'the trash': 'trash/1',
  'a number': '1',
  'a line break': 'a\nb',
  'a wildcard': '%_*?[a]',
  'another script': 'слой',
  'a quote': `'"\\`,
  'what every object has': '__proto__',
  '4096 bytes': 'é'.repeat(2048),
};

const refused: Readonly<Record<string, string>> = {
  'is empty': '',
  'has 4097 bytes': `${'é'.repeat(2048)}x`,
  'holds a NUL': 'a\0b',
};

/** Keys and names, and the store around its records. */
export function layerKeySuite(open: () => Promise<LayerRecordsWorld>, many: number): void {
  let world: LayerRecordsWorld;
  let store: LayerStore;

  beforeEach(async () => {
    world = await open();
    store = world.store;
  });

  afterEach(() => world.close());

  for (const [what, key] of Object.entries(odd)) {
    it(`a key may be ${what}, and a name too`, async () => {
      await store.prepare(key);
      expect(await store.stat(key)).to.include({ name: key, kind: 'active' });
      await store.commit(`N${key.slice(1)}`, key);
      await store.prepare('other');
      await store.commit(key, 'other');
      await store.view('look', { parent: key });
      const names = await namesIn(await world.reopen());
      expect(names).to.have.members([key, `N${key.slice(1)}`, 'look']);
    });
  }

  for (const [what, key] of Object.entries(refused)) {
    it(`no key ${what}, in any call`, async () => {
      await store.prepare('a');
      const calls: Readonly<Record<string, () => Promise<unknown>>> = {
        prepare: () => store.prepare(key),
        view: () => store.view(key),
        mounts: () => store.mounts(key),
        commit: () => store.commit('name', key),
        'commit to it': () => store.commit(key, 'a'),
        freeze: () => store.freeze(key, 'name'),
        'freeze to it': () => store.freeze('a', key),
        merge: () => store.merge(key),
        remove: () => store.remove(key),
        stat: () => store.stat(key),
        update: () => store.update({ name: key, labels: {} }),
        usage: () => store.usage(key),
        verify: () => store.verify(key),
        changes: () => store.changes(null, key),
        diff: () => store.diff(null, key),
        apply: () => store.apply(key, { path: '/dev/null' }),
      };
      const lacks: readonly string[] = world.lacks ?? [];
      for (const [call, make] of Object.entries(calls)) {
        if (lacks.includes(call.split(' ')[0] ?? '')) continue;
        // A call may also throw at once: to who awaits it that is the same.
        expect(await rejection(Promise.resolve().then(make)), call).to.be.instanceOf(InvalidArgument);
      }
      expect(await namesIn(store)).to.deep.equal(['a']);
    });
  }

  it('keys that differ only in case are two', async () => {
    await store.prepare('layer');
    await store.prepare('Layer');
    await store.remove('layer');
    expect(await rejection(store.stat('layer'))).to.be.instanceOf(NotFound);
    expect(await store.stat('Layer')).to.include({ name: 'Layer' });
  });

  it('Remove: a key, and a name, can be used again for anything', async () => {
    await store.prepare('committed-a');
    await store.commit('committed-1', 'committed-a');
    await store.prepare('reuse-1', { parent: 'committed-1' });
    await store.remove('reuse-1');
    await store.view('reuse-1', { parent: 'committed-1' });
    await store.remove('reuse-1');
    await store.prepare('reuse-1');
    await store.remove('committed-1');
    await store.commit('committed-1', 'reuse-1');
    expect(await store.stat('committed-1')).to.include({ kind: 'committed', parent: null });
  });

  it('StatInWalk: a walk holds nobody up', async () => {
    await store.prepare('c1-a');
    await store.commit('c1', 'c1-a');
    await store.prepare('a1', { parent: 'c1' });
    await store.view('v1', { parent: 'c1' });
    for await (const info of store.walk()) expect(await store.stat(info.name)).to.deep.equal(info);
  });

  it('RemoveInWalk: what a walk finds can be removed at once, and new layers made', async () => {
    for (const key of ['a', 'b', 'c']) await store.prepare(key);
    for await (const { name } of store.walk(['kind==active,name!=d'])) {
      await store.remove(name);
      if (name === 'a') await store.prepare('d');
    }
    expect(await namesIn(store)).to.deep.equal(['d']);
  });

  it('a walk can be left, and begun again', async () => {
    for (const key of ['a', 'b']) await store.prepare(key);
    for await (const { name } of store.walk()) {
      await store.remove(name);
      break;
    }
    expect(await namesIn(store)).to.have.length(1);
  });

  it('CloseTwice', async () => {
    await store.prepare('prepare');
    await store.commit('name', 'prepare');
    await store.remove('name');
    await store.close();
    await store.close();
  });

  it(`lists ${many} layers, each once, before and after a restart`, async function () {
    this.timeout(120_000);
    for (let index = 0; index < many; index += 1) await store.prepare(`layer-${index}`);
    for (const opened of [store, await world.reopen()]) {
      const names = await namesIn(opened);
      expect(names).to.have.length(many);
      expect(new Set(names).size).to.equal(many);
    }
  });
}
