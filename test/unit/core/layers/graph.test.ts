import { expect } from 'chai';
import fc from 'fast-check';
import type { NewGraphLayer } from '../../../../src/core/layers/graph.ts';
import { parseGraphId } from '../../../../src/core/layers/graph-names.ts';
import {
  AlreadyExists,
  FailedPrecondition,
  InvalidArgument,
  NotFound,
  Unimplemented,
} from '../../../../src/errors/errors.ts';
import { type GraphWorld, graphId, mountPoints, startGraph } from '../../../support/graph-world.ts';
import { archiveOfLines } from '../../../support/memory-layer-world.ts';
import { rejection } from '../../../support/rejection.ts';

const engine = { peer: 7, label: '' };
const [base, image, init, container] = ['base', 'image', 'c1-init', 'c1'].map(graphId) as [
  ...[ReturnType<typeof graphId>, ReturnType<typeof graphId>],
  ...[ReturnType<typeof graphId>, ReturnType<typeof graphId>],
];

describe('GraphLayers: a layer store as a graph driver', () => {
  let world: GraphWorld;

  beforeEach(async () => {
    world = await startGraph();
  });

  const make = (id: string, parent: string | null, more: Partial<NewGraphLayer> = {}) =>
    world.graph.create(graphId(id), {
      ...{ parent: parent === null ? null : graphId(parent), use: 'image', limit: null, label: '' },
      ...more,
    });
  const get = (id: string) => world.graph.get(graphId(id), engine);
  const put = (id: string) => world.graph.put(graphId(id));
  const apply = (id: string, parent: string | null, ...lines: readonly string[]) =>
    world.graph.archives.applyDiff(
      ...([graphId(id), parent === null ? null : graphId(parent)] as const),
      ...([archiveOfLines(...lines), {}] as const),
    );
  const read = async (id: string, parent: string | null) => {
    const archive = await world.graph.archives.diff(
      ...([graphId(id), parent === null ? null : graphId(parent), {}] as const),
    );
    const pieces = [];
    for await (const piece of archive) pieces.push(piece);
    return Buffer.concat(pieces).toString();
  };

  /** As dockerd does it (moby, layer/layer_store.go): an image of two layers, and a container on it. */
  async function run(): Promise<void> {
    await make('base', null);
    await apply('base', null, 'a', 'b');
    await make('image', 'base');
    await apply('image', 'base', 'c');
    await make('c1-init', 'image', { use: 'container' });
    await get('c1-init');
    await put('c1-init');
    await make('c1', 'c1-init', { use: 'container' });
    await get('c1');
  }

  it('keeps a layer active until others rest on it, or its archive is there', async () => {
    await run();
    expect(await world.names()).to.deep.equal([
      'committed/base',
      'committed/image',
      'committed/c1-init',
      'c1',
    ]);
    for (const id of [base, image, init, container]) expect(await world.graph.exists(id)).to.equal(true);
    expect(await world.mounted()).to.deep.equal(['c1']);
  });

  it('S4 brings an image to the disk before its archive counts as unpacked, and does not wait for an -init layer', async () => {
    await run();
    const asked = world.layers.disk.asked.filter(what => /^(apply|sync|seal)/.test(what));
    const upToImage = ['apply to 1', 'seal 1', 'sync', 'apply to 2,1', 'seal 2,1', 'sync'];
    expect(asked).to.deep.equal([...upToImage, 'seal 3,2,1']);
    world.layers.bootId = 'boot-2';
    await world.start();
    for (const id of [base, image, init, container]) await get(id);
  });

  it('lets nobody write any more to a parent that is still mounted', async () => {
    await make('base', null);
    const path = await get('base');
    await make('image', 'base');
    expect(await world.names()).to.deep.equal(['committed/base', 'image']);
    expect(await get('base')).to.equal(path);
    const [entry] = (await world.mounts.table()).filter(({ mountPoint }) => mountPoint === path);
    expect(entry?.options).to.include('ro');
    expect(await rejection(world.graph.remove(base))).to.be.instanceOf(FailedPrecondition);
    expect(await world.mounted()).to.deep.equal(['base']);
    await put('base');
    await put('base');
    expect(await world.mounted()).to.deep.equal([]);
  });

  it('shows a layer that others rest on read-only, and leaves no view behind', async () => {
    await run();
    const path = await get('base');
    const [entry] = (await world.mounts.table()).filter(({ mountPoint }) => mountPoint === path);
    expect(entry?.options).to.include('ro');
    expect(await world.names()).to.include('view/base');
    await put('base');
    expect(await world.names()).to.not.include('view/base');
  });

  it('mounts a layer once however often it is wanted, and takes it away with its last use', async () => {
    await make('c1', null, { use: 'container' });
    const path = `${mountPoints}/c1`;
    expect(await Promise.all([get('c1'), get('c1'), get('c1')])).to.deep.equal([path, path, path]);
    await put('c1');
    await put('c1');
    expect(await world.mounted()).to.deep.equal(['c1']);
    await put('c1');
    expect(await world.mounted()).to.deep.equal([]);
    expect(world.disk.paths()).to.not.include(path);
    expect(world.mounts.actions).to.have.length(2);
    await put('c1');
    await put('unknown');
  });

  it('counts uses over a restart of the daemon', async () => {
    await make('c1', null);
    await get('c1');
    await get('c1');
    await world.start();
    await put('c1');
    expect(await world.mounted()).to.deep.equal(['c1']);
    await world.start();
    await put('c1');
    expect(await world.mounted()).to.deep.equal([]);
  });

  it('takes a mount for one use when its engine has started anew, or nobody knows better', async () => {
    await make('c1', null);
    for (let use = 0; use < 3; use += 1) await get('c1');
    await world.graph.begin();
    await get('c1');
    await put('c1');
    expect(await world.mounted()).to.deep.equal(['c1']);
    await put('c1');
    expect(await world.mounted()).to.deep.equal([]);
  });

  it('removes a layer with its mount and its view, and what is not there as well', async () => {
    await run();
    await get('c1');
    await world.graph.remove(container);
    expect(await world.mounted()).to.deep.equal([]);
    await world.graph.remove(container);
    await get('image');
    await get('base');
    expect(await rejection(world.graph.remove(base))).to.be.instanceOf(FailedPrecondition);
    expect(await world.names()).to.include.members(['view/base', 'view/image']);
    for (const id of [init, image, base]) await world.graph.remove(id);
    expect(await world.names()).to.deep.equal([]);
    expect(await world.mounted()).to.deep.equal([]);
    expect(world.garbage).to.equal(5);
    expect(await world.graph.exists(base)).to.equal(false);
    for (const id of ['base', 'c1']) expect(await rejection(get(id))).to.be.instanceOf(NotFound);
  });

  it('makes a layer once, and over a layer that is there', async () => {
    await make('base', null);
    await make('c1', 'base', { use: 'container' });
    for (const id of ['base', 'c1']) expect(await rejection(make(id, null))).to.be.instanceOf(AlreadyExists);
    expect(await rejection(make('c2', 'none'))).to.be.instanceOf(NotFound);
    expect(await world.graph.exists(graphId('c2'))).to.equal(false);
  });

  it('keeps a limit, and refuses one that the driver cannot keep', async () => {
    await make('c1', null, { limit: { bytes: 1 << 20 } });
    expect((await world.store.stat('c1')).limit).to.deep.equal({ bytes: 1 << 20 });
    const limit = { bytes: 1, inodes: 1 };
    expect(await rejection(make('c2', null, { limit }))).to.be.instanceOf(Unimplemented);
    expect(await world.graph.exists(graphId('c2'))).to.equal(false);
  });

  it('gives the archive back that a layer was made of, and otherwise what it holds', async () => {
    await run();
    expect(await read('base', null)).to.equal('a\nb');
    expect(await read('image', 'base')).to.equal('c');
    expect(await read('image', null)).to.equal('a\nb\nc');
    expect(await read('c1', 'c1-init')).to.equal('');
    await make('again', 'image');
    await apply('again', 'image', 'a');
    expect(await read('again', 'image')).to.equal('a');
    const sum = await world.graph.archives.diffSize(image, null, {});
    expect(sum).to.equal(3);
    expect(await world.graph.archives.changes(image, base, {})).to.deep.equal([
      { path: '/c', kind: 'added', bytes: 1 },
    ]);
  });

  it('S4 brings a layer to the disk that becomes one of an image by its difference alone', async () => {
    await make('base', null);
    await make('built', 'base');
    await make('c1', 'base', { use: 'container' });
    world.layers.disk.asked.length = 0;
    await read('c1', 'base');
    expect(world.layers.disk.asked).to.deep.equal([]);
    await read('built', 'base');
    expect(world.layers.disk.asked).to.deep.equal(['sync']);
  });

  it('unpacks one archive into a layer, over its own parent, while nobody has it mounted', async () => {
    await make('base', null);
    expect(await apply('base', null, 'a', 'b')).to.equal(3);
    for (const [id, parent, lines] of [
      ['mounted', 'base', ['c']],
      ['elsewhere', null, ['c']],
      ['broken', 'base', ['c', 'broken']],
    ] as const) {
      await make(id, 'base');
      if (id === 'mounted') await get(id);
      await rejection(apply(id, parent, ...lines));
      await put(id);
      expect((await rejection(apply(id, 'base', 'c'))).message, id).to.contain('was sent for the layer');
      await world.graph.remove(graphId(id));
      await make(id, 'base');
      expect(await apply(id, 'base', 'c'), id).to.equal(1);
      expect(await read(id, 'base')).to.equal('c');
    }
    expect(await rejection(apply('base', null, 'a'))).to.be.instanceOf(FailedPrecondition);
    await make('unmade', 'base');
    await world.store.apply('unmade', archiveOfLines('c', 'broken')).catch(() => undefined);
    expect(await rejection(make('c1', 'unmade'))).to.be.instanceOf(FailedPrecondition);
  });

  it('S4 takes no archive for a layer that was made before it was started: it may be the rest of one', async () => {
    await make('base', null);
    await world.start();
    expect((await rejection(apply('base', null, 'a'))).message).to.contain('varve was started after');
    await world.graph.remove(base);
    await make('base', null);
    expect(await apply('base', null, 'a')).to.equal(1);
  });

  it('gives a container its archive, and leaves it writable', async () => {
    await make('c1', null, { use: 'container' });
    await apply('c1', null, 'a');
    expect((await world.store.stat('c1')).kind).to.equal('active');
  });

  it('mounts with the label that was asked for, or refuses it', async () => {
    await make('base', null);
    await make('c1', 'base', { label: 'a_u:b_r:c_t:s0:c1,c2' });
    await world.graph.get(container, { peer: 7, label: 'a_u:b_r:c_t:s0:c1,c2' });
    const [mount] = world.mounts.actions.map(action => ('mount' in action ? action.mount : undefined));
    expect(mount).to.have.property('options').that.includes('context=a_u:b_r:c_t:s0:c1,c2');
    await make('alone', null);
    const bind = world.graph.get(graphId('alone'), { peer: 7, label: 'l' });
    expect(await rejection(bind)).to.be.instanceOf(Unimplemented);
    expect(await world.mounted()).to.deep.equal(['c1']);
    world.driver = 'btrfs';
    expect(await rejection(make('c2', 'base', { label: 'l' }))).to.be.instanceOf(Unimplemented);
    expect(await world.graph.exists(graphId('c2'))).to.equal(false);
  });

  it('takes back a mount that the engine does not see', async () => {
    await make('c1', null);
    world.mounts.hideFrom(8);
    const unseen = world.graph.get(container, { peer: 8, label: '' });
    expect((await rejection(unseen)).message).to.contain(`does not see mounts made under ${mountPoints}`);
    expect(await world.mounted()).to.deep.equal([]);
    await get('c1');
    const blind = world.graph.get(container, { peer: 0, label: '' });
    expect(await rejection(blind)).to.be.instanceOf(FailedPrecondition);
    await put('c1');
    expect(await world.mounted()).to.deep.equal([]);
  });

  for (const what of ['an active layer', 'a layer that others rest on']) {
    it(`a mount of ${what} that fails leaves nothing, and the next one works`, async () => {
      await make('base', null);
      if (what !== 'an active layer') await make('image', 'base');
      const before = await world.names();
      world.mounts.failNext('mount', new FailedPrecondition('not now'));
      expect((await rejection(get('base'))).message).to.equal('not now');
      expect(await world.mounted()).to.deep.equal([]);
      expect(await world.names()).to.deep.equal(before);
      expect(world.disk.paths()).to.not.include(`${mountPoints}/base`);
      await get('base');
      await put('base');
      expect(await world.mounted()).to.deep.equal([]);
    });
  }

  it('mounts again what somebody has unmounted by hand', async () => {
    await make('c1', null);
    const path = await get('c1');
    await world.mounts.unmount(path);
    expect(await get('c1')).to.equal(path);
    expect(await world.mounted()).to.deep.equal(['c1']);
  });

  it('removes the views that a reboot or a crash has left', async () => {
    await run();
    await get('base');
    world.mounts.endProcess(process.pid);
    for (const { key } of await world.bootStore.list('graph/')) {
      await world.bootStore.transaction([], [{ type: 'delete', key }]);
    }
    await world.start();
    await world.graph.tidy();
    expect(await world.names()).to.not.include('view/base');
    await world.store.view('view/image', { parent: 'committed/image' });
    await world.graph.begin();
    expect(await world.names()).to.not.include('view/image');
  });

  it('tidies and cleans up beside what it cannot', async () => {
    await run();
    await get('base');
    world.disk.makePath(`${mountPoints}/lost+found`);
    world.dead = [`${mountPoints}/base`];
    world.mounts.failNext('mount', new FailedPrecondition('not now'));
    world.disk.makePath(`${mountPoints}/left`);
    await world.graph.tidy();
    expect(world.disk.paths()).to.not.include(`${mountPoints}/left`);
    expect(world.log.join()).to.contain('not now');
    world.mounts.failNext('unmount', new FailedPrecondition('busy'));
    await world.graph.cleanup();
    expect(await world.mounted()).to.deep.equal(['base']);
  });

  it('unmounts everything when its engine ends', async () => {
    await run();
    await get('image');
    await world.graph.cleanup();
    expect(await world.mounted()).to.deep.equal([]);
    expect(await world.names()).to.not.include('view/image');
    await world.graph.cleanup();
  });

  it('mounts anew what answers no more, also a view, and says so', async () => {
    await run();
    await get('base');
    world.dead = [`${mountPoints}/c1`, `${mountPoints}/base`];
    for (const path of world.dead) await world.mounts.unmount(path);
    await world.graph.tidy();
    expect([...(await world.mounted())].sort()).to.deep.equal(['base', 'c1']);
    expect(world.log.join()).to.contain('restart the container');
    world.dead = [];
    await put('base');
    await put('c1');
    expect(await world.mounted()).to.deep.equal([]);
  });

  it('removes the mount points that a reboot has left, and no other', async () => {
    await run();
    world.disk.makePath(`${mountPoints}/left`);
    await world.graph.tidy();
    expect(world.disk.paths()).to.not.include(`${mountPoints}/left`);
    expect(world.disk.paths()).to.include(`${mountPoints}/c1`);
    expect(await world.mounted()).to.deep.equal(['c1']);
  });

  it('tells people and tools where a layer is', async () => {
    await run();
    expect(await world.graph.metadata(container)).to.deep.equal({
      ...{ Layer: 'c1', Store: 'docker', Number: '4', MergedDir: `${mountPoints}/c1` },
      ...{ LowerDir: '/layers/3/fs:/layers/2/fs:/layers/1/fs', UpperDir: '/layers/4/fs' },
    });
    expect(await world.graph.metadata(image)).to.deep.equal({
      ...{ Layer: 'committed/image', Store: 'docker', Number: '2', MergedDir: `${mountPoints}/image` },
    });
    expect(Object.fromEntries(await world.graph.status())).to.deep.equal({
      ...{ 'Layer Store': 'docker', 'Layer Driver': 'overlay', 'Layer Root': '/layers' },
    });
  });

  it('takes ids that can be names of mount points, and no others', () => {
    for (const id of ['f'.repeat(64), `${'f'.repeat(64)}-init`, 'Base', 'x'.repeat(255), 'a.b_c']) {
      expect(parseGraphId(id)).to.equal(id);
    }
    for (const raw of ['', '.', '..', 'a/b', '../a', '-a', 'a b', 'ü', 'x'.repeat(256), undefined, 7, null]) {
      expect(() => parseGraphId(raw), String(raw)).to.throw(InvalidArgument);
    }
  });

  it('in any order of Get, Put, restarts and new layers on top, mounts as often as uses say', async () => {
    // What each does, and how many uses there are then.
    const steps = {
      get: [() => get('base'), (uses: number) => uses + 1],
      put: [() => put('base'), (uses: number) => Math.max(0, uses - 1)],
      restart: [() => world.start(), (uses: number) => uses],
      child: [() => make(`child-${world.layers.disk.asked.length}`, 'base'), (uses: number) => uses],
      engine: [() => world.graph.begin(), (uses: number) => Math.min(uses, 1)],
    } as const;
    const names = fc.array(fc.constantFrom(...(Object.keys(steps) as (keyof typeof steps)[])), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(names, async chosen => {
        world = await startGraph();
        await make('base', null);
        let uses = 0;
        for (const name of chosen) {
          const [act, usesAfter] = steps[name];
          await act();
          uses = usesAfter(uses);
          expect(await world.mounted()).to.deep.equal(uses > 0 ? ['base'] : []);
        }
        for (; uses > 0; uses -= 1) await put('base');
        expect(await world.mounted()).to.deep.equal([]);
        expect((await world.names()).filter(name => name.startsWith('view/'))).to.deep.equal([]);
      }),
      { numRuns: 100 },
    );
  });
});
