import { expect } from 'chai';
import { usersText } from '../../../../src/cli/layer-text.ts';
import { treeText } from '../../../../src/cli/layer-tree.ts';
import { LayerImporter } from '../../../../src/core/layers/importer.ts';
import { LayerInspector } from '../../../../src/core/layers/inspector.ts';
import type { LayerInfo } from '../../../../src/core/layers/layer-store.ts';
import type { EngineUsers } from '../../../../src/core/layers/users.ts';
import type { LayerSpace, LayerUser } from '../../../../src/core/layers/view.ts';
import { FailedPrecondition, Unavailable } from '../../../../src/errors/errors.ts';
import { FakeLayerStore } from '../../../support/fake-layer-store.ts';

const image = (name: string): LayerUser => ({ kind: 'image', name });
const container = (name: string): LayerUser => ({ kind: 'container', name });

describe('what an engine says of its layers', () => {
  let store: FakeLayerStore;
  let answer: EngineUsers | Error;
  let asked: number;
  let collected: number;
  let inspector: LayerInspector;
  beforeEach(() => {
    store = new FakeLayerStore();
    const active = { kind: 'active', usage: { bytes: 4096, inodes: 1 } } as const;
    store.add('base');
    store.add('shop', { parent: 'base' });
    store.add('c1', { parent: 'shop', ...active });
    store.add('c2', { parent: 'shop', ...active });
    store.add('lower');
    store.add('lost', { parent: 'lower', ...active });
    asked = 0;
    collected = 0;
    answer = {
      users: new Map([
        ['base', [image('base:1')]],
        ['shop', [image('shop:1'), image('shop:2')]],
        ['c1', [container('web')]],
      ]),
      leaked: new Set(['lost']),
    };
    const engine = {
      users: async (_layers: readonly LayerInfo[]) => {
        asked += 1;
        if (answer instanceof Error) throw answer;
        return answer;
      },
      async collect() {
        collected += 1;
        store.infos.delete('lost');
      },
    };
    const stores = { made: async () => ['docker'], get: async () => store };
    inspector = new LayerInspector(stores, { docker: engine });
  });

  const layers = async (): Promise<Readonly<Record<string, LayerSpace>>> => {
    const [space] = await inspector.space();
    return Object.fromEntries((space?.layers ?? []).map(layer => [layer.name, layer]));
  };

  it('a layer is needed by those who stand on it and on what rests on it, each named once', async () => {
    const { base, shop, c1, c2 } = await layers();
    expect(base?.usedBy).to.deep.equal({
      count: 4,
      first: [image('base:1'), image('shop:1'), image('shop:2'), container('web')],
    });
    expect(shop?.users).to.deep.equal([image('shop:1'), image('shop:2')]);
    expect(c1?.usedBy).to.deep.equal({ count: 1, first: [container('web')] });
    expect(c2?.usedBy).to.deep.equal({ count: 0, first: [] });
  });

  it('what nothing refers to is leaked, with what only that needs, and counts as reclaimable', async () => {
    const { lost, lower, c2 } = await layers();
    expect([lost?.share, lower?.share, c2?.share]).to.deep.equal(['leaked', 'leaked', 'own']);
    const [space] = await inspector.space();
    expect(space?.totals.reclaimable).to.equal(1000 + 4096);
    expect(space?.totals.total).to.equal(3 * 1000 + 3 * 4096);
  });

  it('of many users the first ten are named, and all counted', async () => {
    const many = Array.from({ length: 30 }, (_, at) => image(`i${at}`));
    answer = { users: new Map([['c1', many]]), leaked: new Set() };
    const { base } = await layers();
    expect(base?.usedBy?.count).to.equal(30);
    expect(base?.usedBy?.first).to.deep.equal(many.slice(0, 10));
    expect(usersText({ count: 30, first: many.slice(0, 10) })).to.equal(
      'image i0, image i1, image i2 and 27 more',
    );
  });

  it('an engine that does not answer leaves the layers without names, and says why', async () => {
    answer = new Unavailable('containerd is away');
    const [space] = await inspector.space();
    expect(space?.engineSilence).to.equal('containerd is away');
    expect(space?.layers.map(({ share, usedBy }) => [share, usedBy])).to.deep.include(['own', null]);
    expect(space?.layers.some(({ share }) => share === 'leaked')).to.equal(false);
    expect((await inspector.list()).every(({ usedBy }) => usedBy === null)).to.equal(true);
    expect(space === undefined ? '' : treeText(space, 'ascii')).to.match(/not named: containerd is away$/);
  });

  it('ls and inspect name the users as well, whatever the filter', async () => {
    const [base] = await inspector.list(undefined, ['kind==committed']);
    expect(base?.usedBy?.count).to.equal(4);
    expect((await inspector.details('base')).usedBy?.count).to.equal(4);
  });

  it('gc lists what is leaked, and lets the engine remove it: varve removes no layer by itself', async () => {
    const { items } = await inspector.garbage();
    expect(items.map(({ kind, name }) => [kind, name])).to.deep.equal([
      ['leaked', 'lower'],
      ['leaked', 'lost'],
    ]);
    expect(collected).to.equal(0);
    const gone = await inspector.collect();
    expect(collected).to.equal(1);
    expect(gone.items.map(({ name }) => name)).to.include('lost');
  });

  it('an engine that has leaked nothing is not disturbed by gc', async () => {
    answer = { users: new Map(), leaked: new Set() };
    await inspector.collect();
    expect(collected).to.equal(0);
  });

  it('a layer that the engine needs is not removed by varve, nor one while nobody can be asked; a damaged one is', async () => {
    const refusal = async (name: string) =>
      inspector.findToRemove(name).then(
        () => undefined,
        (error: Error) => `${error.constructor.name}: ${error.message}`,
      );
    expect(await refusal('base')).to.match(/^FailedPrecondition: .* needed by the image "base:1"/);
    expect(await refusal('lost')).to.equal(undefined);
    answer = new Unavailable('containerd is away');
    expect(await refusal('lost')).to.match(/^Unavailable: .*containerd is away/);
    store.add('broken', { damage: 'half an archive' });
    expect(await refusal('broken')).to.equal(undefined);
  });

  it('nothing is imported into the store of an engine, which would delete it', async () => {
    const importer = new LayerImporter({ inspector, newUuid: () => '', sha256: () => '' });
    const archive = (async function* () {
      yield Buffer.from('');
    })();
    const refused = await importer.import({ store: 'docker' }, archive).catch((error: unknown) => error);
    expect(refused).to.be.an.instanceof(FailedPrecondition);
  });

  it('what tidies in the background asks no engine', async () => {
    const importer = new LayerImporter({ inspector, newUuid: () => '', sha256: () => '' });
    await importer.removeLeftovers('docker');
    expect(asked).to.equal(0);
    await inspector.list();
    expect(asked).to.equal(1);
  });
});
