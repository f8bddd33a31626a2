import { expect } from 'chai';
import type { LayerStore } from '../../../../src/core/layers/layer-store.ts';
import { parseLayerNumber } from '../../../../src/core/names.ts';
import { FailedPrecondition, InvalidArgument, Unimplemented } from '../../../../src/errors/errors.ts';
import { MemoryLayerDisk } from '../../../support/memory-layer-disk.ts';
import { archiveOfLines, MemoryLayerWorld } from '../../../support/memory-layer-world.ts';
import { rejection } from '../../../support/rejection.ts';

describe('LayerStore over a disk in memory', () => {
  let world: MemoryLayerWorld;
  let disk: MemoryLayerDisk;
  let store: LayerStore;

  const open = async (fake = new MemoryLayerDisk()) => {
    world = new MemoryLayerWorld(fake);
    disk = fake;
    store = await world.reopen();
  };

  const commit = async (name: string, parent: string | null, ...lines: readonly string[]) => {
    await store.prepare('key', parent === null ? {} : { parent });
    await store.apply('key', archiveOfLines(...lines));
    await store.commit(name, 'key');
  };

  /** What a layer shows: a difference from nothing. */
  const seen = async (name: string) =>
    (await store.changes(null, name)).map(({ path }) => path.slice(1)).join(' ');

  beforeEach(() => open());
  afterEach(() => world.close());

  it('brings the data to the disk before the record says that it is committed', async () => {
    await store.prepare('key');
    disk.asked.length = 0;
    const commits = store.commit('name', 'key');
    await commits;
    expect(disk.asked).to.deep.equal(['seal 1', 'sync', 'place 1 as committed']);
  });

  it('waives that when it is told to, and one `sync` makes up for several commits', async () => {
    await store.prepare('a');
    await store.prepare('b');
    disk.asked.length = 0;
    await store.commit('one', 'a', { sync: false });
    await store.commit('two', 'b', { sync: false });
    expect(disk.asked).not.to.include('sync');
    await store.sync();
    expect(disk.asked.filter(what => what === 'sync')).to.have.length(1);
    world.bootId = 'boot-2';
    store = await world.reopen();
    for (const name of ['one', 'two']) expect((await store.stat(name)).damage).to.equal(null);
  });

  it('brings to the disk again what was committed while that went on', async () => {
    await store.prepare('key');
    await store.apply('key', archiveOfLines('a'));
    let flushes = 0;
    disk.sync = async () => {
      flushes += 1;
      if (flushes === 1) await store.commit('name', 'key', { sync: false });
    };
    await store.sync();
    expect(flushes).to.equal(2);
    await store.sync();
    expect(flushes).to.equal(3);
  });

  it('what was committed without and lost its host is refused, with all that rests on it, and can be removed', async () => {
    await store.prepare('a');
    await store.commit('one', 'a', { sync: false });
    await store.prepare('b', { parent: 'one' });
    await store.commit('two', 'b', { sync: false });
    world.bootId = 'boot-2';
    store = await world.reopen();
    expect((await store.stat('one')).damage).to.be.a('string');
    for (const call of [
      store.prepare('new 1', { parent: 'one' }),
      store.view('new 2', { parent: 'two' }),
      store.diff(null, 'two'),
    ]) {
      expect(await rejection(call)).to.be.instanceOf(FailedPrecondition);
    }
    await store.remove('two');
    await store.remove('one');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('after a mere restart such a layer is sound, and is brought to the disk', async () => {
    await store.prepare('a');
    await store.commit('one', 'a', { sync: false });
    disk.asked.length = 0;
    store = await world.reopen();
    expect(disk.asked).to.include('sync');
    world.bootId = 'boot-2';
    store = await world.reopen();
    expect((await store.stat('one')).damage).to.equal(null);
  });

  for (const aside of [false, true]) {
    const where = aside ? 'the frozen layer' : 'the writable layer';
    it(`freezes on a disk that puts ${where} at the new number, and keeps the limit`, async () => {
      disk.freezesAside = aside;
      await commit('base', null, 'a');
      const limit = { bytes: 1000 };
      await store.prepare('volume', { parent: 'base', limit, labels: { l: 'v' } });
      await store.apply('volume', archiveOfLines('b'));
      const before = await store.stat('volume');
      await store.freeze('volume', 'monday');
      await store.apply('volume', archiveOfLines('c'));
      for (const [name, lines] of Object.entries({ monday: 'a b', volume: 'a b c', base: 'a' })) {
        expect(await seen(name), name).to.equal(lines);
      }
      expect(await store.usage('monday')).to.deep.equal({ bytes: 1, inodes: 2 });
      const [frozen, writable] = [await store.stat('monday'), await store.stat('volume')];
      expect(frozen.number === before.number).to.equal(!aside);
      expect(frozen).to.deep.include({ parent: 'base', kind: 'committed', limit: null, labels: {} });
      expect(frozen.usage).to.deep.equal({ bytes: 1, inodes: 2 });
      expect(writable).to.deep.include({ parent: 'monday', kind: 'active', limit, labels: { l: 'v' } });
      expect(disk.asked.some(what => what.startsWith('freeze') && what.endsWith('limited to 1000'))).to.equal(
        true,
      );
      const infos = [frozen, await store.stat('volume')];
      store = await world.reopen();
      expect([await store.stat('monday'), await store.stat('volume')]).to.deep.equal(infos);
    });
  }

  it('refuses a freeze of what is mounted where the disk cannot do it, and forgets the attempt', async () => {
    await store.prepare('volume');
    disk.mounted.add((await store.stat('volume')).number);
    expect(await rejection(store.freeze('volume', 'monday'))).to.be.instanceOf(FailedPrecondition);
    disk.mounted.clear();
    await store.freeze('volume', 'monday');
    expect(await store.stat('volume')).to.include({ parent: 'monday' });
  });

  it('merges a layer into the only one above, which keeps its name and loses its DiffID', async () => {
    await commit('one', null, 'a');
    await commit('two', 'one', 'b');
    await commit('three', 'two', 'c');
    expect((await store.stat('two')).diffId).to.match(/^sha256:/);
    const [createdAt] = [(await store.stat('two')).createdAt];
    await store.merge('one');
    expect(await store.stat('two')).to.include({ parent: null, diffId: null, createdAt, kind: 'committed' });
    expect(await seen('two')).to.equal('a b');
    expect(await seen('three')).to.equal('a b c');
    await store.merge('two');
    expect(await seen('three')).to.equal('a b c');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
    expect((await disk.found()).layers).to.have.length(1);
  });

  it('merges what was not brought to the disk yet, and does that', async () => {
    await store.prepare('a');
    await store.commit('one', 'a', { sync: false });
    await store.prepare('b', { parent: 'one' });
    await store.commit('two', 'b', { sync: false });
    await store.prepare('c', { parent: 'two' });
    await store.commit('three', 'c', { sync: false });
    await store.merge('one');
    world.bootId = 'boot-2';
    store = await world.reopen();
    for (const name of ['two', 'three']) expect((await store.stat(name)).damage).to.equal(null);
  });

  it('a merge measures anew what the layer above has of its own', async () => {
    await commit('one', null, 'aaa');
    await commit('two', 'one', 'b');
    await store.merge('one');
    expect(await store.usage('two')).to.deep.equal({ bytes: 4, inodes: 3 });
  });

  it('an archive that broke leaves a layer that is only good for being removed, also after a restart', async () => {
    await store.prepare('key');
    expect(await rejection(store.apply('key', archiveOfLines('a', 'broken')))).to.be.instanceOf(
      InvalidArgument,
    );
    for (let round = 0; round < 2; round += 1) {
      expect((await store.stat('key')).damage).to.be.a('string');
      for (const call of [
        store.commit('name', 'key'),
        store.freeze('key', 'name'),
        store.apply('key', archiveOfLines('b')),
        store.mounts('key'),
      ]) {
        expect(await rejection(call)).to.be.instanceOf(FailedPrecondition);
      }
      store = await world.reopen();
    }
    await store.remove('key');
  });

  it('knows the DiffID of a layer that was made of one archive and nothing else', async () => {
    await commit('one', null, 'a');
    expect((await store.stat('one')).diffId).to.match(/^sha256:[0-9a-f]{64}$/);
    await store.prepare('key');
    await store.apply('key', archiveOfLines('a'));
    await store.apply('key', archiveOfLines('b'));
    await store.commit('two', 'key');
    expect((await store.stat('two')).diffId).to.equal(null);
    await store.prepare('key');
    await store.commit('none', 'key');
    expect((await store.stat('none')).diffId).to.equal(null);
  });

  it('keeps no limit that its disk cannot keep', async () => {
    await open(new MemoryLayerDisk({ limits: [] }));
    expect(await rejection(store.prepare('key', { limit: { bytes: 1 } }))).to.be.instanceOf(Unimplemented);
    await store.prepare('key');
    expect(await store.stat('key')).to.include({ limit: null });
  });

  it('leaves what the records do not know where it is, and gives its number to nobody', async () => {
    await commit('one', null, 'a');
    await commit('two', 'one', 'b');
    const younger = world.disk;
    const before = await younger.found();
    await open(younger);
    expect(await younger.found()).to.deep.equal(before);
    expect(world.log.filter(line => line.startsWith('warn'))).to.have.length(2);
    await store.prepare('new');
    expect((await store.stat('new')).number).to.be.greaterThan(Math.max(...before.layers));
    await store.cleanup();
    expect((await younger.found()).layers).to.include.members([...before.layers]);
  });

  it('gives the number of a removed layer that somebody still uses to nobody, also when the records forgot it', async () => {
    await store.prepare('used');
    const { number } = await store.stat('used');
    const { disk } = world;
    disk.mounted.add(number);
    await store.remove('used');
    expect(await store.cleanup()).to.deep.equal({ left: 1 });
    await open(disk);
    await store.prepare('new');
    expect((await store.stat('new')).number).to.be.greaterThan(number);
  });

  it('a layer whose directory is gone is damaged, and can be removed', async () => {
    await commit('one', null, 'a');
    await disk.remove(parseLayerNumber((await store.stat('one')).number));
    store = await world.reopen();
    expect((await store.stat('one')).damage).to.be.a('string');
    const { message } = await rejection(store.prepare('key', { parent: 'one' }));
    expect(message).to.match(/; remove it, and make it again$/);
    expect(world.log.some(line => line.startsWith('warn') && line.includes('one'))).to.equal(true);
    await store.remove('one');
  });
});
