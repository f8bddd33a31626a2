import { expect } from 'chai';
import { shortName } from '../../../src/cli/layer-name.ts';
import { drawTree, treeText } from '../../../src/cli/layer-tree.ts';
import { attribute, totalsOf } from '../../../src/core/layers/attribution.ts';
import type { LayerInfo } from '../../../src/core/layers/layer-store.ts';
import type { StoreSpace } from '../../../src/core/layers/view.ts';
import { FakeLayerStore } from '../../support/fake-layer-store.ts';

type Given = readonly [name: string, parent: string | null, changes?: Partial<LayerInfo>];

/** A store with these layers, each `[name, parent, changes]`. */
function spaceWith(...layers: readonly Given[]): StoreSpace {
  const store = new FakeLayerStore('/var/lib/varve/layers/default');
  for (const [name, parent, info] of layers) store.add(name, { parent, ...info });
  const attributed = attribute([...store.infos.values()].map(info => ({ info, usage: info.usage })));
  const rest = { store: 'default', driver: 'overlay', root: store.root, engineSilence: null, strays: [] };
  return { ...rest, layers: attributed, totals: totalsOf(attributed, []) };
}

const active = { kind: 'active', usage: { bytes: 4096, inodes: 1 } } as const;

describe('the tree of layers', () => {
  const drawing = (...layers: readonly Given[]) =>
    drawTree(spaceWith(...layers).layers, 'utf8').map(({ drawing: left, layer }) => `${left} ${layer.name}`);

  it('puts an only child straight below, and lets several branch off', () => {
    expect(
      drawing(
        ...([
          ['base', null],
          ['libs', 'base'],
          ['app-1', 'libs'],
          ['app-2', 'libs'],
        ] as const),
        ...([
          ['fix', 'app-1'],
          ['c1', 'fix', active],
          ['c2', 'fix', active],
          ['v', 'app-2', { kind: 'view' }],
        ] as const),
        ...([['alone', null]] as const),
      ),
    ).to.deep.equal([
      '● base',
      '● libs',
      '├─● app-1',
      '│ ● fix',
      '│ ├─○ c1',
      '│ └─○ c2',
      '└─● app-2',
      '  ◌ v',
      '● alone',
    ]);
  });

  it('does not wander to the right with a high stack, and needs no stack itself', () => {
    const stack = Array.from(
      { length: 5000 },
      (_, at) => [`l${at}`, at === 0 ? null : `l${at - 1}`] as const,
    );
    expect(drawing(...stack)[4999]).to.equal('● l4999');
  });

  it('S2 shows at a glance that two images and their containers rest on the same layers', () => {
    const mebibytes = (count: number) => ({ usage: { bytes: count * 1024 ** 2, inodes: 1 } });
    const app = { diffId: `sha256:${'5'.repeat(64)}` };
    const text = treeText(
      spaceWith(
        ['debian', null, mebibytes(72)],
        ['python', 'debian', mebibytes(41)],
        ['shop', 'python', { ...mebibytes(2), ...app }],
        ['blog', 'python', mebibytes(3)],
        ['shop-1', 'shop', active],
        ['shop-2', 'shop', active],
        ['blog-1', 'blog', active],
        ['alpine', null, { ...mebibytes(8), damage: 'its files are gone' }],
        ['shop-small', 'alpine', { ...mebibytes(2), ...app }],
      ),
      'ascii',
    );
    expect(text.split('\n')).to.deep.equal([
      'default: overlay, /var/lib/varve/layers/default',
      'LAYER          KIND        OWN        SHARED',
      '* debian       committed   72.0 MiB   by 3',
      '* python       committed   41.0 MiB   by 3',
      '|-* shop       committed   2.0 MiB    by 2',
      '| |-o shop-1   active      4.0 KiB',
      '| `-o shop-2   active      4.0 KiB',
      '`-* blog       committed   3.0 MiB',
      '  o blog-1     active      4.0 KiB',
      '',
      '* alpine       committed   8.0 MiB             damaged',
      '* shop-small   committed   2.0 MiB             same archive as shop',
      '',
      '9 layers, 120 MiB; without sharing 348 MiB. A layer rests on the one above it, or on the one from which its line branches off.',
    ]);
  });

  it('says that there is nothing', () => {
    expect(treeText(spaceWith(), 'utf8')).to.equal(
      'default: overlay, /var/lib/varve/layers/default\nno layers',
    );
  });
});

describe('a short name', () => {
  const digest = '0123456789abcdef'.repeat(4);

  it('has as much of a digest as docker shows', () => {
    expect(shortName(`sha256:${digest}`)).to.equal('sha256:0123456789ab');
    expect(shortName(`moby/57/sha256:${digest}`)).to.equal('moby/57/sha256:0123456789ab');
  });

  it('shows where something is left out, so that nobody types it', () => {
    expect(shortName(`moby/57/${digest}-init`)).to.equal('moby/57/0123456789ab…-init');
    expect(shortName('x'.repeat(100)))
      .to.have.length(60)
      .and.to.include('…');
  });

  it('is the name itself when that is short', () => {
    expect(shortName('base:1.0 (old)')).to.equal('base:1.0 (old)');
  });
});
