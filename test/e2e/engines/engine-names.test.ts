import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { containerdFiles } from '../../../scripts/lib/containerd.ts';
import { layersText, spaceText } from '../../../src/cli/layer-text.ts';
import type { EngineReport } from '../../../src/core/engine-setup/view.ts';
import type { LayerChange } from '../../../src/core/layers/layer-store.ts';
import type {
  LayerDetails,
  LayerSpace,
  LayerUser,
  ListedLayer,
  StoreSpace,
} from '../../../src/core/layers/view.ts';
import { ContainerdClient } from '../../../src/host/linux/containerd-client.ts';
import { ContainerdLayers } from '../../../src/host/linux/containerd-layers.ts';
import { Snapshots } from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { admin } from '../../crash/admin.ts';
import { TestContainerd } from '../../support/containerd.ts';
import { docker } from '../../support/containers.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { onLaterEngines, selectedBin, startEngine, type TestEngine } from '../../support/engine.ts';

const isLater = selectedBin() !== undefined;

/** The installed Docker stores through the graph driver, the later ones through containerd. */
describe('an engine that stores on varve, as varve shows it', function () {
  this.timeout(120_000);
  let directory: string;
  let daemon: TestDaemon;
  let containerd: TestContainerd | undefined;
  let engine: TestEngine;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'varve-names-'));
    const link = join(directory, 'docker.sock');
    const containerdDirectory = await mkdtemp(join(tmpdir(), 'varve-ctrd-'));
    const { socket: address } = containerdFiles(containerdDirectory);
    const config = { engine: `unix://${link}`, snapshotters: { varve: { containerd: address } } };
    daemon = await startDaemon({ config, layers: true });
    if (isLater) {
      const varve = {
        socket: join(daemon.directory, 'run/containerd.sock'),
        root: join(daemon.root, 'layers'),
      };
      containerd = await TestContainerd.start({ directory: containerdDirectory, varve });
      engine = await startEngine({ imageStore: { containerd: address, snapshotter: 'varve' } });
    } else {
      await rm(containerdDirectory, { recursive: true });
      engine = await startEngine({ args: ['--experimental', '--storage-driver', daemon.driver] });
    }
    symlinkSync(engine.socket, link);
    await docker(
      engine,
      'run',
      '--name',
      'builder',
      '--network',
      'none',
      'busybox',
      'sh',
      '-c',
      'echo 1 > /app',
    );
    await docker(engine, 'commit', 'builder', 'shop:1');
    await docker(engine, 'rm', 'builder');
    for (const name of ['web', 'worker']) {
      await docker(engine, 'create', '--name', name, '--network', 'host', 'shop:1', 'cat', '/app');
    }
  });
  after(async () => {
    await engine?.stop();
    await containerd?.stop();
    await daemon?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  const store = isLater ? 'containerd' : 'docker';
  const list = () => admin<ListedLayer[]>(daemon, 'GET', `/v1/layers?store=${store}`);
  const space = async (): Promise<StoreSpace> => {
    const [found] = await admin<StoreSpace[]>(daemon, 'GET', `/v1/layers-usage?store=${store}`);
    return found as StoreSpace;
  };
  const namesOf = (users: readonly LayerUser[]) => users.map(({ kind, name }) => `${kind} ${name}`).sort();
  const layerOf = (layers: readonly LayerSpace[], user: string) => {
    const found = layers.find(layer => namesOf(layer.users).includes(user));
    expect(found, `the layer of ${user}`).not.to.equal(undefined);
    return found as LayerSpace;
  };

  it('S1 S2 names images and containers, each at its own layer, and who shares what is beneath', async () => {
    const { layers, engineSilence } = await space();
    expect(engineSilence).to.equal(null);
    const [web, worker] = ['web', 'worker'].map(name => layerOf(layers, `container ${name}`));
    expect([web?.kind, worker?.kind]).to.deep.equal(['active', 'active']);
    const shop = layerOf(layers, 'image shop:1');
    const everybody = ['container web', 'container worker', 'image shop:1'];
    expect(namesOf(shop.usedBy?.first ?? [])).to.deep.equal(everybody);
    const base = layerOf(layers, 'image busybox:latest');
    expect(namesOf(base.usedBy?.first ?? [])).to.deep.equal([...everybody, 'image busybox:latest'].sort());
    expect(layers.indexOf(base)).to.be.below(layers.indexOf(shop));
    expect(layers.filter(({ share }) => share === 'leaked')).to.deep.equal([]);
  });

  it('S3 what a container writes stands in its own layer, costs what it changes, and no other container sees it', async () => {
    await docker(
      engine,
      'run',
      '--name',
      'writer',
      '--network',
      'none',
      'shop:1',
      'sh',
      '-c',
      'echo 22 > /app',
    );
    const { layers } = await space();
    const writer = layerOf(layers, 'container writer');
    const path = `/v1/layers/${encodeURIComponent(writer.name)}/changes?store=${store}`;
    const changes = await admin<readonly LayerChange[]>(daemon, 'GET', path);
    expect(changes.filter(({ bytes }) => bytes > 0)).to.deep.equal([
      { path: '/app', kind: 'modified', bytes: 3 },
    ]);
    expect(writer.usage?.bytes).to.be.below(64 * 1024);
    expect(await docker(engine, 'start', '--attach', 'web')).to.equal('1');
    await docker(engine, 'rm', 'writer');
    const left = (await list()).map(({ name }) => name);
    expect(left).not.to.include(writer.name);
  });

  it('names them in tables as well', async () => {
    const tree = (await daemon.varve('layer', 'tree', '--store', store)).stdout;
    expect(tree)
      .to.match(/ image shop:1\n/)
      .and.to.match(/active .* container web\n/);
    expect(spaceText(await space())).to.match(/active .* container web\n/);
    const all = await list();
    expect(layersText(all, new Date())).to.match(/active .* container worker /);
    const bottom = encodeURIComponent(all[0]?.name ?? '');
    const details = await admin<LayerDetails>(daemon, 'GET', `/v1/layers/${bottom}?store=${store}`);
    expect(details.usedBy?.count).to.equal(4);
  });

  it('varve engine check says that it uses varve, and through which socket', async () => {
    const words = ['engine', 'check', ...(isLater ? [] : ['docker']), '--format', 'json'];
    const { exitCode, stdout, stderr } = await daemon.varve(...words);
    expect(exitCode, stderr + stdout).to.equal(0);
    const reports = JSON.parse(stdout) as EngineReport[];
    expect(reports.map(({ engine: kind, usesVarve }) => ({ kind, usesVarve }))).to.deep.equal(
      ['containerd', 'docker'].slice(isLater ? 0 : 1).map(kind => ({ kind, usesVarve: true })),
    );
    for (const { face, socket, missing } of reports) {
      expect(missing).to.deep.equal([]);
      expect(face).to.equal(isLater ? 'snapshotter' : 'graph driver');
      expect(socket).to.equal(isLater ? join(daemon.directory, 'run/containerd.sock') : daemon.socket);
    }
  });

  onLaterEngines(() =>
    it('finds what containerd has leaked, and lets containerd remove it; what a label keeps stays', async () => {
      const ctr = (...words: string[]) =>
        (containerd as TestContainerd).ctr('snapshots', '--snapshotter', 'varve', ...words);
      const address = containerd?.socket ?? '';
      const names = () => Promise.resolve(new Map<string, string>());
      const engineOf = new ContainerdLayers({ address, snapshotter: 'varve', names });
      const aged = async () => (await list()).map(layer => ({ ...layer, updatedAt: '2020-01-01T00:00:00Z' }));
      const bare = (names: Iterable<string>) => [...names].map(name => name.replace(/^.*\//, ''));
      // As after a crash between our answer and containerd's note of it.
      const ours = new ContainerdClient(join(daemon.directory, 'run/containerd.sock'));
      await ours
        .service(Snapshots, 'default')
        .prepare({ snapshotter: 'varve', key: 'default/999999/orphan' });
      ours.close();
      expect(bare((await engineOf.users(await aged())).leaked)).to.deep.equal(['orphan']);
      await engineOf.collect();
      expect(bare((await list()).map(({ name }) => name))).not.to.include('orphan');

      await ctr('prepare', 'kept');
      await ctr('prepare', 'lost');
      await ctr('label', 'lost', 'containerd.io/gc.root=');
      const { leaked, users } = await engineOf.users(await aged());
      expect(bare(leaked)).to.deep.equal(['lost']);
      expect([...users].find(([name]) => name.endsWith('/kept'))?.[1]).to.deep.equal([
        { kind: 'lease', name: 'its label containerd.io/gc.root' },
      ]);
      await engineOf.collect();
      const left = bare((await list()).map(({ name }) => name));
      expect(left).to.include('kept').and.not.to.include('lost');
      await ctr('rm', 'kept');
    }),
  );

  it('without the engine it shows the layers without names, and says why', async () => {
    await engine.stop();
    await containerd?.stop();
    const { layers, engineSilence } = await space();
    expect(layers.length).to.be.above(1);
    expect(layers.every(({ usedBy }) => usedBy === null)).to.equal(true);
    expect(engineSilence).to.be.a('string');
  });
});
