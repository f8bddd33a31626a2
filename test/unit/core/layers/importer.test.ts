import { expect } from 'chai';
import { LayerImporter } from '../../../../src/core/layers/importer.ts';
import { LayerInspector } from '../../../../src/core/layers/inspector.ts';
import { AlreadyExists, InvalidArgument, NotFound } from '../../../../src/errors/errors.ts';
import { FakeLayerStore } from '../../../support/fake-layer-store.ts';
import { setOf } from '../../../support/layer-face.ts';
import { rejection } from '../../../support/rejection.ts';

const diffId = `sha256:${'d'.repeat(64)}`;
const leftover = 'import-1f0e2d3c-4b5a-4968-8778-695a4b3c2d1e';
const parent = `sha256:${'a'.repeat(64)}`;

describe('the import of a layer', () => {
  let store: FakeLayerStore;
  let importer: LayerImporter;

  beforeEach(() => {
    store = new FakeLayerStore();
    const inspector = new LayerInspector(setOf({ default: store }));
    importer = new LayerImporter({
      inspector,
      newUuid: () => 'uuid',
      sha256: text => `<${text}>`,
    });
  });

  const archive = async function* (text = 'archive'): AsyncGenerator<Uint8Array> {
    yield* [...text].map(letter => Buffer.from(letter));
  };
  const make = (request: { name?: string; parent?: string } = {}, text?: string) =>
    importer.import({ store: 'default', ...request }, archive(text));
  const refused = async (request: { name?: string; parent?: string }, text?: string) => {
    const error = await rejection(make(request, text));
    return error;
  };

  it('commits what was unpacked under the name that was given', async () => {
    expect(await make({ name: 'base' })).to.include({ store: 'default', name: 'base', kind: 'committed' });
    expect(store.applied.map(String)).to.deep.equal(['archive']);
    expect(store.keptOriginal, 'whether it can be exported to the byte').to.equal(true);
    expect([...store.infos.keys()]).to.deep.equal(['base']);
    expect(store.infos.get('base')?.labels).to.deep.equal({});
  });

  it('is named after the digest of the archive', async () => {
    expect(await make()).to.include({ name: diffId, parent: null });
  });

  it('over a parent is named after both, as the OCI image specification does', async () => {
    store.add(parent);
    expect(await make({ parent: 'aaaa' })).to.include({ name: `sha256:<${parent} ${diffId}>`, parent });
  });

  it('over a parent without a digest needs a name, which is said before anything is read', async () => {
    store.add('base');
    const error = await refused({ parent: 'base' });
    expect(error).to.be.instanceOf(InvalidArgument);
    expect(error.message).to.include('choose a name with --name');
    expect(store.applied).to.deep.equal([]);
    expect(await make({ parent: 'base', name: 'app' })).to.include({ parent: 'base', name: 'app' });
  });

  it('of what is there already is refused, before it is read where the name is given', async () => {
    store.add('base');
    store.add(diffId);
    for (const request of [{ name: 'base' }, {}]) {
      const error = await refused(request);
      expect(error).to.be.instanceOf(AlreadyExists);
      expect(error.message).to.include('is there already');
    }
    expect(store.applied).to.have.length(1);
    expect([...store.infos.keys()]).to.deep.equal(['base', diffId]);
  });

  it('over a parent that is not there is refused', async () => {
    const error = await refused({ parent: 'base', name: 'app' });
    expect(error).to.be.instanceOf(NotFound);
    expect(error.message).to.match(/^the parent is missing: no such layer: "base"/);
  });

  it('into a store that is not there is refused', async () => {
    const error = await rejection(importer.import({ store: 'x' }, archive()));
    expect(error).to.be.instanceOf(NotFound);
  });

  it('of a broken archive leaves nothing', async () => {
    expect(await refused({ name: 'base' }, 'broken')).to.be.instanceOf(InvalidArgument);
    expect(store.infos.size).to.equal(0);
  });

  it('says what was wrong with the archive, although what it left cannot be removed', async () => {
    store.remove = async () => {
      throw new Error('the disk is gone');
    };
    expect((await refused({ name: 'base' }, 'broken')).message).to.include('broken at byte 3');
  });

  it('that a crash cut off is removed at the next start, and nothing else', async () => {
    store.add('base');
    store.add('import-of-a-person', { kind: 'active', usage: null });
    const imported = { kind: 'active', usage: null, labels: { 'varve/import': '' } } as const;
    store.add('import-of-somebody-else', imported);
    store.add('import-1f0e2d3c-4b5a-4968-8778-695a4b3c2d1e-2', imported);
    const others = [...store.infos.keys()];
    store.add(leftover, imported);
    await importer.removeLeftovers('default');
    expect([...store.infos.keys()]).to.deep.equal(others);
  });

  it('that ends while leftovers are looked for is no failure', async () => {
    const second = leftover.replace(/.$/, '2');
    for (const name of [leftover, second]) {
      store.add(name, { kind: 'active', usage: null, labels: { 'varve/import': '' } });
    }
    const remove = store.remove.bind(store);
    store.remove = async key => {
      if (key === leftover) store.infos.delete(key);
      await remove(key);
    };
    await importer.removeLeftovers('default');
    expect(store.infos.size).to.equal(0);
  });

  it('leftovers that cannot be removed are told', async () => {
    store.add(leftover, { kind: 'active', usage: null, labels: { 'varve/import': '' } });
    store.remove = async () => {
      throw new Error('the disk is gone');
    };
    expect((await rejection(importer.removeLeftovers('default'))).message).to.equal('the disk is gone');
  });
});
