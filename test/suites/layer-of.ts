import { expect } from 'chai';
import type { MountSource } from '../../src/core/mount.ts';
import { file } from '../support/layer-tree.ts';
import { commit, type LayerWorld } from '../support/layer-world.ts';

/** Which layer mounts show: what a differ is asked with. */
export function layerOfSuite(open: () => Promise<LayerWorld>, limits: readonly string[]): void {
  let world: LayerWorld;
  const shown = (mounts: readonly MountSource[]) => world.store.layerOf(mounts)?.name;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  it('an active layer, the parent of a view, and a view of nothing, are known by their mounts', async () => {
    const { store } = world;
    await commit(world, 'one', undefined, [file('/one', 'x')]);
    await commit(world, 'two', 'one', [file('/two', 'x')]);
    expect(shown(await store.prepare('active'))).to.equal('active');
    expect(shown(await store.prepare('active on two', { parent: 'two' }))).to.equal('active on two');
    expect(shown(await store.view('view of one', { parent: 'one' }))).to.equal('one');
    expect(shown(await store.view('view of two', { parent: 'two' }))).to.equal('two');
    expect(shown(await store.view('view of nothing'))).to.equal('view of nothing');
    const mounts = await store.mounts('active on two');
    await store.commit('three', 'active on two', { sync: false });
    expect(shown(mounts), 'committed meanwhile').to.equal('three');
    await store.remove('three');
    expect(shown(mounts), 'removed meanwhile').to.equal(undefined);
    if (!limits.includes('bytes')) return;
    const limit = { bytes: 32 << 20 };
    expect(shown(await store.prepare('limited', { parent: 'two', limit }))).to.equal('limited');
  });

  it('mounts of anything else are not', async () => {
    const { store } = world;
    await commit(world, 'one', undefined);
    await commit(world, 'two', 'one');
    const [own] = await store.prepare('active');
    const [union] = await store.prepare('active on two', { parent: 'two' });
    if (own?.type !== 'bind' || union === undefined) throw new Error('it should have been a bind');
    for (const source of ['/etc', world.root, `${own.source}/etc`, `${own.source}x`, `${world.root}/99/fs`]) {
      expect(shown([{ ...own, source }]), source).to.equal(undefined);
    }
    expect(shown([]), 'nothing').to.equal(undefined);
    expect(shown([own, own]), 'two mounts').to.equal(undefined);
    if (union.type === 'bind') return;
    const lower = (change: (paths: string) => string) => ({
      ...union,
      options: union.options.map(option =>
        option.replace(/^lowerdir=(.*)/, (_, paths) => `lowerdir=${change(paths)}`),
      ),
    });
    expect(shown([lower(paths => paths)])).to.equal('active on two');
    const others = [
      lower(paths => `${paths}:/etc`),
      lower(paths => paths.split(':').slice(1).join(':')),
      lower(paths => paths.split(':').reverse().join(':')),
    ];
    for (const mount of others) expect(shown([mount]), String(mount.options)).to.equal(undefined);
  });
}
