import { expect } from 'chai';
import type { Logger } from '../../../src/lib/log.ts';
import { pluginApp } from '../../../src/servers/docker/volume-driver.ts';
import { type GraphWorld, mountPoints, startGraph } from '../../support/graph-world.ts';
import { type Answer, request, type Served, serveApp } from '../../support/raw-client.ts';
import { Host } from '../../support/world.ts';

const log = { error() {}, warn() {}, info() {}, debug() {} } as unknown as Logger;
const home = { Home: '/var/lib/docker/varve', Opts: null, UIDMaps: null, GIDMaps: null };
const layerCalls = ['Create', 'CreateReadWrite', 'Remove', 'Get', 'Put', 'Exists', 'GetMetadata'];
const comparisons = ['Changes', 'DiffSize', 'Diff'];

describe('the graph driver on the plugin socket', () => {
  let world: GraphWorld;
  let served: Served;

  beforeEach(async () => {
    world = await startGraph();
    served = await serveApp(
      pluginApp({
        ...(await new Host().start()),
        ...{ graph: world.graph, ready: Promise.resolve(), peerPid: () => undefined, onPeer: () => {} },
        ...{ onActivate: () => {}, debug: false, managed: false, log },
      }),
    );
  });

  afterEach(() => served.close());

  const call = (method: string, body?: unknown) => served.post(`/GraphDriver.${method}`, body);
  const apply = (query: string, archive: string) =>
    served.raw(request('POST', `/GraphDriver.ApplyDiff?${query}`, archive));
  const ok = (body: unknown): Answer => ({ status: 200, body });
  const errorOf = (answer: Answer): string => {
    expect(answer?.status).to.equal(500);
    return ((answer ?? { body: {} }).body as { Err: string }).Err;
  };

  it('answers all calls of moby, in its forms', async () => {
    const handshake = { Implements: ['VolumeDriver', 'GraphDriver'] };
    expect(await served.post('/Plugin.Activate')).to.deep.equal(ok(handshake));
    expect(await call('Init', home)).to.deep.equal(ok({}));
    const capabilities = { Capabilities: { ReproducesExactDiffs: true } };
    expect(await call('Capabilities', {})).to.deep.equal(ok(capabilities));
    expect(await call('Create', { ID: 'base' })).to.deep.equal(ok({}));
    expect(await apply('id=base&parent=', 'a\nb')).to.deep.equal(ok({ Size: 3 }));
    expect(await call('CreateReadWrite', { ID: 'c1-init', Parent: 'base' })).to.deep.equal(ok({}));
    expect(await call('Get', { ID: 'c1-init' })).to.deep.equal(ok({ Dir: `${mountPoints}/c1-init` }));
    expect(await call('Put', { ID: 'c1-init' })).to.deep.equal(ok({}));
    const Changes = [{ Path: '/b', Kind: 1 }];
    const compared = { ID: 'base', Parent: '' };
    expect(await call('Changes', compared)).to.deep.equal(
      ok({ Changes: [{ Path: '/a', Kind: 1 }, ...Changes] }),
    );
    expect(await call('DiffSize', compared)).to.deep.equal(ok({ Size: 2 }));
    expect(await call('Exists', { ID: 'base' })).to.deep.equal(ok({ Exists: true }));
    expect(await call('Exists', { ID: 'none' })).to.deep.equal(ok({ Exists: false }));
    const status = (await call('Status', {}))?.body as { Status: unknown[] };
    expect(status.Status[0]).to.deep.equal(['Layer Store', 'docker']);
    const metadata = (await call('GetMetadata', { ID: 'base' }))?.body as { Metadata: object };
    expect(metadata.Metadata).to.include({ Layer: 'committed/base' });
    for (const ID of ['c1-init', 'base', 'base']) expect(await call('Remove', { ID })).to.deep.equal(ok({}));
    expect(await call('Cleanup', {})).to.deep.equal(ok({}));
    expect(await world.names()).to.deep.equal([]);
  });

  for (const method of [...layerCalls, ...comparisons]) {
    it(`an empty ${method}, as a repeated request is, is refused, and changes nothing`, async () => {
      await call('Create', { ID: 'base' });
      await call('Get', { ID: 'base' });
      const before = await world.bootStore.revision();
      for (const body of ['', '  \n', '{}']) {
        const answer = await served.raw(request('POST', `/GraphDriver.${method}`, body));
        expect(errorOf(answer)).to.contain('the layer id is missing');
      }
      expect(await world.names()).to.deep.equal(['base']);
      expect(await world.mounted()).to.deep.equal(['base']);
      expect(await world.bootStore.revision()).to.equal(before);
    });

    it(`${method} refuses an id that is none, and a body that is no JSON object`, async () => {
      for (const ID of ['..', 'a/b', '', 'x'.repeat(300), 7, {}]) {
        expect(errorOf(await call(method, { ID })), JSON.stringify(ID)).to.contain('layer id');
      }
      expect(errorOf(await served.raw(request('POST', `/GraphDriver.${method}`, '[]')))).to.contain('JSON');
    });
  }

  for (const method of comparisons) {
    it(`${method} fails before its first byte for a layer that is not there`, async () => {
      await call('Create', { ID: 'base' });
      for (const body of [{ ID: 'none' }, { ID: 'base', Parent: 'none' }]) {
        expect(errorOf(await call(method, body))).to.contain('no such layer: "none"');
      }
    });
  }

  it('takes a size for a container, in the units of docker, and any case', async () => {
    const sizes = {
      '50M': 50 << 20,
      '1GB': 1 << 30,
      '1GiB': 1 << 30,
      '1048576': 1 << 20,
      '512kb': 512 << 10,
    };
    for (const [size, bytes] of Object.entries(sizes)) {
      await call('CreateReadWrite', {
        ID: `c${size}`,
        StorageOpt: { [`${size === '50M' ? 'SIZE' : 'size'}`]: size },
      });
      expect((await world.store.stat(`c${size}`)).limit, size).to.deep.equal({ bytes });
    }
  });

  it('refuses a size for an image, a size that is none, and every other storage option', async () => {
    expect(errorOf(await call('Create', { ID: 'a', StorageOpt: { size: '1G' } }))).to.contain(
      'for containers',
    );
    for (const StorageOpt of [
      { size: 'big' },
      { size: '-1' },
      { sise: '1G' },
      { size: 7 },
      ['size=1G'],
      'size=1G',
    ]) {
      for (const method of ['Create', 'CreateReadWrite']) {
        const answer = await call(method, { ID: 'a', StorageOpt });
        expect(errorOf(answer), JSON.stringify(StorageOpt)).to.match(/size|StorageOpt/);
      }
    }
    expect(await world.names()).to.deep.equal([]);
  });

  it('Init refuses what dockerd says only once: options, and users of another namespace', async () => {
    const map = [{ container_id: 0, host_id: 100_000, size: 65_536 }];
    expect(errorOf(await call('Init', { ...home, Opts: ['varve.size=1G'] }))).to.contain('varve.size=1G');
    for (const maps of [{ UIDMaps: map }, { GIDMaps: map }]) {
      expect(errorOf(await call('Init', { ...home, ...maps }))).to.contain('userns-remap');
    }
    expect(errorOf(await call('Init'))).to.contain('without Home');
    expect(await call('Init', { ...home, Opts: [] })).to.deep.equal(ok({}));
  });

  it('ApplyDiff refuses an archive that is broken, one for nobody, and a second one', async () => {
    expect(errorOf(await apply('parent=', 'a'))).to.contain('the layer id is missing');
    expect(errorOf(await apply('id=none&parent=', 'a'))).to.contain('no such layer');
    for (const [query, archive, message] of [
      ['id=base&id=base&parent=', 'a', 'layer id'],
      ['id=base&parent=base', 'a', 'not on'],
      ['id=base&parent=', 'a\nbroken', 'broken'],
    ] as const) {
      await call('Create', { ID: 'base' });
      expect(errorOf(await apply(query, archive))).to.contain(message);
      await call('Remove', { ID: 'base' });
    }
    await call('Create', { ID: 'base' });
    expect(await apply('id=base&parent=', 'a')).to.deep.equal(ok({ Size: 1 }));
    expect(errorOf(await apply('id=base&parent=', 'a'))).to.contain('was sent for the layer');
  });

  it('gives what stands beneath a container no limit, which the container could not reach', async () => {
    await call('CreateReadWrite', { ID: 'c1-init', StorageOpt: { size: '50M' } });
    expect((await world.store.stat('c1-init')).limit).to.equal(null);
    await call('CreateReadWrite', { ID: 'c1', Parent: 'c1-init', StorageOpt: { size: '50M' } });
    expect((await world.store.stat('c1')).limit).to.deep.equal({ bytes: 50 << 20 });
    const wrong = await call('CreateReadWrite', { ID: 'c2-init', StorageOpt: { size: 'big' } });
    expect(errorOf(wrong)).to.contain('is not a size');
  });

  it('has no such calls on the socket of a driver without layers', async () => {
    const other = await serveApp(
      pluginApp({
        ...(await new Host().start()),
        ...{ ready: Promise.resolve(), peerPid: () => undefined, onPeer: () => {}, onActivate: () => {} },
        ...{ debug: false, managed: false, log },
      }),
    );
    try {
      expect(await other.post('/Plugin.Activate')).to.deep.equal(ok({ Implements: ['VolumeDriver'] }));
      for (const method of ['Init', 'ApplyDiff', 'Get']) {
        expect(errorOf(await other.post(`/GraphDriver.${method}`, home))).to.contain('varve has no POST');
      }
    } finally {
      await other.close();
    }
  });
});
