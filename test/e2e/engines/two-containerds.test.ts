import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { containerdFiles } from '../../../scripts/lib/containerd.ts';
import { removeEngine } from '../../../scripts/lib/remove-engine.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { LayerView } from '../../../src/core/layers/view.ts';
import { admin } from '../../crash/admin.ts';
import { TestContainerd } from '../../support/containerd.ts';
import { startDaemon, type TestDaemon } from '../../support/daemon.ts';
import { imageName, makeTestImage, makeTestLayers } from '../../support/engine-image.ts';
import type { ImageArchive } from '../../support/image-archive.ts';

describe('two containerds in one varve, each with a socket and a layer store of its own', function () {
  this.timeout(60_000);
  const names = ['varve', 'second'] as const;
  let scratch: string;
  let daemon: TestDaemon;
  let image: ImageArchive;
  const containerds = new Map<string, TestContainerd>();
  const directoryOf = (name: string) => join(scratch, name);

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'varve-two-'));
    image = await makeTestImage(scratch, 'all', await makeTestLayers(scratch));
    const snapshotters = Object.fromEntries(
      names.map(name => [
        name,
        { containerd: containerdFiles(directoryOf(name)).socket, layerStore: name, socket: socketOf(name) },
      ]),
    );
    const layerStores = Object.fromEntries(names.map(name => [name, { path: layersOf(name) }]));
    daemon = await startDaemon({ config: { snapshotters, layerStores } });
    for (const name of names) {
      const varve = { name, socket: socketOf(name), root: layersOf(name) };
      containerds.set(name, await TestContainerd.start({ directory: directoryOf(name), varve }));
    }
  });
  after(async () => {
    for (const name of names) await removeEngine(directoryOf(name));
    await daemon?.dispose();
    rmSync(scratch, { recursive: true, force: true });
  });

  const socketOf = (name: string) => join(scratch, `${name}.sock`);
  const layersOf = (name: string) => join(scratch, `layers-${name}`);
  const count = async (store: string) =>
    (await admin<LayerView[]>(daemon, 'GET', `/v1/layers?store=${store}`)).length;
  const ctr = (name: string, ...words: readonly string[]) => containerds.get(name)?.ctr(...words);

  it('collects the garbage of one, and leaves what the other has, and what belongs to neither', async () => {
    const imported = await daemon.varve('layer', 'import', join(scratch, 'everything.tar'), '--name', 'ours');
    expect(imported.stderr).to.equal('');
    for (const name of names) await ctr(name, 'images', 'import', '--snapshotter', name, image.path);
    expect(await Promise.all([...names, 'default'].map(count))).to.deep.equal([3, 3, 1]);
    await ctr('varve', 'images', 'rm', '--sync', imageName('all'));
    await until('the layers of the first to be gone', 10_000, async () => (await count('varve')) === 0);
    for (const name of names) await ctr(name, 'content', 'prune', 'references');
    expect(await Promise.all([...names, 'default'].map(count))).to.deep.equal([0, 3, 1]);
    const shown = await containerds.get('second')?.run('second', imageName('all'), 'runs', 'ls /opt/opaque');
    expect(shown).to.equal('shown');
  });
});
