import { expect } from 'chai';
import { LayerInspector } from '../../../../src/core/layers/inspector.ts';
import { InvalidArgument, NotFound } from '../../../../src/errors/errors.ts';
import { FakeLayerStore, trash } from '../../../support/fake-layer-store.ts';
import { setOf } from '../../../support/layer-face.ts';
import { rejection } from '../../../support/rejection.ts';

const one = `sha256:1${'a'.repeat(63)}`;
const two = `sha256:1${'b'.repeat(63)}`;

describe('the inspector of layers', () => {
  let docker: FakeLayerStore;
  let own: FakeLayerStore;
  let inspector: LayerInspector;

  beforeEach(() => {
    docker = new FakeLayerStore('/docker');
    own = new FakeLayerStore('/own');
    inspector = new LayerInspector(setOf({ docker, own }));
    docker.add(one);
    docker.add(two, { parent: one });
    docker.add('moby/5/c 1', { parent: two, kind: 'active', usage: null });
  });

  const names = async (store?: string, filters?: string[]) =>
    (await inspector.list(store, filters)).map(({ name }) => name);
  const found = async (name: string, store?: string) => (await inspector.find(name, store)).info.name;

  describe('lists', () => {
    it('all stores, or the one that is named', async () => {
      own.add('mine');
      expect(await names()).to.deep.equal([one, two, 'moby/5/c 1', 'mine']);
      expect(await names('own')).to.deep.equal(['mine']);
      expect((await inspector.list())[3]).to.include({ store: 'own', name: 'mine' });
    });

    it('what a filter lets through', async () => {
      expect(await names('docker', ['kind==active'])).to.deep.equal(['moby/5/c 1']);
    });

    it('no store that is not there', async () => {
      expect(await rejection(inspector.list('dcoker'))).to.be.instanceOf(NotFound);
    });

    it('no store that holds nothing yet, unless it is named', async () => {
      const made = async () => ['own'];
      inspector = new LayerInspector({ ...setOf({ docker, own }), made });
      expect(await names()).to.deep.equal([]);
      expect(await names('docker')).to.have.length(3);
    });
  });

  describe('finds a layer', () => {
    it('by its name, whatever is in it', async () => {
      expect(await found('moby/5/c 1')).to.equal('moby/5/c 1');
    });

    it('by the beginning of its name, with or without the name of the digest', async () => {
      expect(await found('sha256:1a')).to.equal(one);
      expect(await found('1b')).to.equal(two);
      expect(await found('moby')).to.equal('moby/5/c 1');
    });

    it('by its name, although another name begins so', async () => {
      docker.add('mob');
      expect(await found('mob')).to.equal('mob');
    });

    it('not when several begin so, and shows two of them', async () => {
      const error = await rejection(inspector.find('sha256:1'));
      expect(error).to.be.instanceOf(InvalidArgument);
      expect(error.message).to.match(/^2 layers begin with "sha256:1", such as "sha256:1a/);
    });

    it('not when two stores have it, unless one is named', async () => {
      own.add(one);
      const error = await rejection(inspector.find(one));
      expect(error).to.be.instanceOf(InvalidArgument);
      expect(error.message).to.include('is in several stores: docker, own; choose one with --store');
      expect((await inspector.find(one, 'own')).storeName).to.equal('own');
    });

    it('not when there is none, and says what shows them', async () => {
      const error = await rejection(inspector.find('5'));
      expect(error).to.be.instanceOf(NotFound);
      expect(error.message).to.equal('no such layer: "5"; `varve layer ls` shows those there are');
      expect(await rejection(inspector.find('1a', 'own'))).to.be.instanceOf(NotFound);
    });
  });

  describe('finds a layer to remove', () => {
    const removed = async (name: string) => (await inspector.findToRemove(name)).info.name;

    it('by its whole name, or 12 digits or more of its digest', async () => {
      expect(await removed('moby/5/c 1')).to.equal('moby/5/c 1');
      expect(await removed(one)).to.equal(one);
      expect(await removed(`sha256:1${'a'.repeat(11)}`)).to.equal(one);
      expect(await removed(`1${'b'.repeat(20)}`)).to.equal(two);
    });

    it('not by less, nor by the beginning of any other name', async () => {
      docker.add('app-data');
      docker.add(`${'c'.repeat(12)}-data`);
      docker.add(`sha256:${'d'.repeat(12)}-data`);
      for (const name of ['app', 'moby', `1${'a'.repeat(10)}`, 'sha256:1a', 'c'.repeat(12), 'd'.repeat(12)]) {
        const error = await rejection(inspector.findToRemove(name));
        expect(error).to.be.instanceOf(NotFound);
        expect(error.message).to.include(`no layer is named "${name}"; to remove "`);
      }
    });
  });

  it('lists many layers in turns, so that others have theirs', async () => {
    for (let at = 0; at < 5000; at += 1) docker.add(`l${at}`);
    let turns = 0;
    const turn = () => {
      turns += 1;
      waiting = setImmediate(turn);
    };
    let waiting = setImmediate(turn);
    const found = await names().finally(() => clearImmediate(waiting));
    expect(found).to.have.length(5003);
    expect(turns).to.be.above(3);
  });

  it('knows what a layer rests on and what rests on it', async () => {
    expect(await inspector.details(two)).to.deep.include({
      ...{ store: 'docker', name: two, parent: one },
      ...{ beneath: [one], children: ['moby/5/c 1'] },
    });
    expect((await inspector.details('moby')).beneath).to.deep.equal([two, one]);
  });

  it('measures active layers only, and adds what is left over', async () => {
    docker.usages.set('moby/5/c 1', { bytes: 7, inodes: 2 });
    docker.found = [trash(9, 20), { ...trash(12, 30), kind: 'unrecorded' }];
    const [space] = await inspector.space('docker');
    expect(space).to.include({ store: 'docker', driver: 'overlay', root: '/docker' });
    expect(space?.layers.map(({ usage }) => usage?.bytes)).to.deep.equal([1000, 1000, 7]);
    expect(space?.totals).to.include({ own: 2007, shared: 0, reclaimable: 20, orphaned: 30, total: 2057 });
  });

  it('leaves out an active layer that is removed while it measures, and does not touch a damaged one', async () => {
    docker.add('bad', { kind: 'active', usage: null, damage: 'files are missing' });
    docker.usage = async key => {
      if (key === 'bad') throw new Error('it was looked at');
      throw new NotFound('it is gone');
    };
    const [space] = await inspector.space('docker');
    expect(space?.layers.map(({ name }) => name)).to.deep.equal([one, two, 'bad']);
    expect(space?.layers[2]).to.include({ usage: null, share: 'damaged' });
  });

  it('says what would be deleted, and then what was', async () => {
    const [gone, used] = [trash(9, 20, 'old'), trash(10, 5)];
    docker.found = [gone, used, { ...trash(11, 30), kind: 'draft' }];
    docker.inUse = [10];
    const here = { store: 'docker' };
    const items = [
      { ...here, ...gone },
      { ...here, ...used },
    ];
    expect(await inspector.garbage()).to.deep.equal({ items, left: 0 });
    expect(docker.found).to.have.length(3);
    expect(await inspector.collect('own')).to.deep.equal({ items: [], left: 0 });
    expect(await inspector.collect()).to.deep.equal({ items: [{ ...here, ...gone }], left: 1 });
  });
});
