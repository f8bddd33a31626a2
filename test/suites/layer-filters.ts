import { expect } from 'chai';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import { InvalidArgument } from '../../src/errors/errors.ts';
import { collect, type LayerRecordsWorld, namesIn } from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

const root = { 'containerd.io/gc.root': 'check-walk' };
const all = ['a-np', 'p', 'a', 'v', 'p-wl', 'a-wl', 'v-wl', 'a-np-wl'];

/** Filters, and the layers of {@link populate} for which one of them holds. Those of containerd's checkWalk first. */
const cases: readonly (readonly [filters: readonly string[], names: readonly string[]])[] = [
  [['labels."containerd.io/gc.root"==check-walk'], all],
  [['kind==active,labels."containerd.io/gc.root"==check-walk'], ['a-np', 'a', 'a-wl', 'a-np-wl']],
  [['kind==view,labels."containerd.io/gc.root"==check-walk'], ['v', 'v-wl']],
  [['kind==committed,labels."containerd.io/gc.root"==check-walk'], ['p', 'p-wl']],
  [
    ['name==p', 'name==a-np-wl'],
    ['p', 'a-np-wl'],
  ],
  [['name==a-wl,labels.l'], ['a-wl']],
  [['parent==p'], ['a', 'v']],
  [['parent!="",labels."containerd.io/gc.root"==check-walk'], ['a', 'v', 'a-wl', 'v-wl']],
  [['labels.l'], ['p-wl', 'a-wl', 'v-wl', 'a-np-wl']],
  [['labels.l==2'], ['a-wl', 'a-np-wl']],
  // The rest of the grammar (containerd, pkg/filters).
  [[], all],
  [[''], all],
  [['name'], all],
  [['parent==""'], ['a-np', 'p', 'p-wl', 'a-np-wl']],
  [['kind!=active'], ['p', 'v', 'p-wl', 'v-wl']],
  [['labels.l!=2'], ['a-np', 'p', 'a', 'v', 'p-wl', 'v-wl']],
  [['labels.none'], []],
  [['labels.none==""'], []],
  [['labels'], []],
  [['unknown'], []],
  [['unknown==x'], []],
  [['name==P'], []],
  [
    ['name==nobody', 'kind==view'],
    ['v', 'v-wl'],
  ],
  [['name~=^a'], ['a-np', 'a', 'a-wl', 'a-np-wl']],
  [['name~=wl'], ['p-wl', 'a-wl', 'v-wl', 'a-np-wl']],
  [['name~=/^(a|v)$/'], ['a', 'v']],
  [['name~=|^a-[nw].$|'], ['a-np', 'a-wl']],
  [['name~=/^[ap]{1,2}$/,kind==committed'], ['p']],
  [['name~=^(a+)+$'], ['a']],
  [['name~=/^(?i:A)(?:-[^n][a-z]{1,2})?$/'], ['a', 'a-wl']],
  [['labels.l~="^[12]$"'], ['p-wl', 'a-wl', 'a-np-wl']],
  [['name=="a-wl"'], ['a-wl']],
  [['labels."l"==1'], ['p-wl']],
  [['labels.path==a.b-c_d/e:f'], ['a']],
  [['labels.text=="with, a comma and a \\"quote\\""'], ['a']],
  [['labels.text=="with, a comma and a \\x22quote\\u0022"'], ['a']],
  [['labels.text~="comma and"'], ['a']],
  [['labels."a \\\\ and a \\".post"==x'], ['v']],
  [['labels."a \\\\ and a \\"".post==x'], ['v']],
  [['labels.dotted.name==x'], ['v']],
];

const broken = [
  ...['name==a,', 'labels.', '.name', ',', '==a', 'name==', 'name~=,kind==view', 'name=a', 'name===a'],
  ...['name<a', 'name==a kind==view', 'name==a"b"', 'name=="a', 'labels."l', 'labels.ns/key==x'],
  ...[
    'labels.|l|==2',
    'labels.l==/2',
    'labels.?"l"==2',
    'name~=[',
    'name~=/(/',
    'name~=(?=a)',
    'name~=/(a)\\1/',
    'name~=a**',
    'name~=(x{200}){200}',
    'name=="\\q"',
    'nämë==a',
  ],
];

async function populate(store: LayerStore): Promise<void> {
  await store.prepare('a-np', { labels: root });
  await store.prepare('p-tmp');
  await store.commit('p', 'p-tmp', { labels: root });
  const text = 'with, a comma and a "quote"';
  await store.prepare('a', { parent: 'p', labels: { ...root, path: 'a.b-c_d/e:f', text } });
  await store.view('v', {
    parent: 'p',
    labels: { ...root, 'a \\ and a ".post': 'x', 'dotted.name': 'x' },
  });
  await store.prepare('p-wl-tmp', { labels: { ...root, l: '0' } });
  await store.commit('p-wl', 'p-wl-tmp', { labels: { ...root, l: '1' } });
  await store.prepare('a-wl', { parent: 'p-wl', labels: { ...root, l: '2' } });
  await store.view('v-wl', { parent: 'p-wl', labels: { ...root, l: '3' } });
  await store.prepare('a-np-wl', { labels: { ...root, l: '2' } });
}

/** The filters of `walk`. */
export function layerFilterSuite(open: () => Promise<LayerRecordsWorld>): void {
  let world: LayerRecordsWorld;

  before(async () => {
    world = await open();
    await populate(world.store);
  });

  after(() => world.close());

  for (const [filters, names] of cases) {
    it(`Walk: ${filters.map(filter => filter || '""').join(' or ') || 'no filter'} finds ${names.join(' ') || 'nothing'}`, async () => {
      const found = await namesIn(world.store, ...filters);
      expect(found.sort()).to.deep.equal([...names].sort());
    });
  }

  for (const filter of broken) {
    it(`refuses the filter ${filter}, and names it`, async () => {
      const error = await rejection(collect(world.store.walk([filter])));
      expect(error).to.be.instanceOf(InvalidArgument);
      expect(error.message).to.contain(filter.slice(0, 3));
    });
  }
}
