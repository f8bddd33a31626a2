import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { refusedLabel } from '../../../src/core/layers/container-limits.ts';
import type { LayerView, StoreSpace } from '../../../src/core/layers/view.ts';
import { buildWithBuildKit } from '../../support/buildkit.ts';
import { docker, inContainer, startContainer } from '../../support/containers.ts';
import { onLaterEngines, type TestEngine } from '../../support/engine.ts';
import { imageName, makeLayer, makeTestImage, makeTestLayers } from '../../support/engine-image.ts';
import type { ImageArchive } from '../../support/image-archive.ts';
import { isLong } from '../../support/long.ts';
import { SnapshotterHost } from '../../support/snapshotter-host.ts';
import { file } from '../../support/tar-entries.ts';
import { readWholeTree, treeDifferences } from '../../support/whole-tree.ts';

/** How many containers of one image are started and removed, and how many layers an image is built with. */
const [many, deep] = isLong ? [100, 60] : [20, 24];

/** From 26 on an engine can keep its images in containerd, and containerd keeps them in varve. */
onLaterEngines(() =>
  describe('Docker with its images and containers in varve', function () {
    this.timeout(120_000);
    let scratch: string;
    let host: SnapshotterHost;
    let engine: TestEngine;
    let layers: readonly string[];
    let image: ImageArchive;
    /** The layers of the images that the engine has to begin with. */
    let initial: readonly string[];
    const name = imageName('all');
    const kept = ['busybox:latest', 'varve/all:1'];

    before(async () => {
      scratch = mkdtempSync(join(tmpdir(), 'varve-images-'));
      layers = await makeTestLayers(scratch);
      image = await makeTestImage(scratch, 'all', layers, { gzip: true });
      const socket = join(scratch, 'docker.sock');
      host = await SnapshotterHost.start({ config: { engine: `unix://${socket}` } });
      engine = await host.startEngine();
      symlinkSync(engine.socket, socket);
      await run('load', '--quiet', '--input', image.path);
      initial = await layerNames();
    });
    after(async () => {
      await engine?.stop();
      await host?.stop();
      rmSync(scratch, { recursive: true, force: true });
    });
    afterEach(async () => {
      const containers = (await run('ps', '--all', '--quiet')).split('\n').filter(id => id !== '');
      if (containers.length > 0) await run('rm', '--force', ...containers);
      const images = (await run('images', '--format', '{{.Repository}}:{{.Tag}}')).split('\n');
      const others = images.filter(each => !kept.includes(each));
      if (others.length > 0) await run('rmi', '--force', ...others);
      await run('builder', 'prune', '--all', '--force');
      await untilLayers(initial);
    });

    const run = (...words: readonly string[]) => docker(engine, ...words);
    const layerNames = async () => (await host.list()).map(layer => layer.name).sort();
    /** Containerd collects what is not needed any more when it finds the time. */
    async function untilLayers(expected: readonly string[]): Promise<void> {
      const areThese = async () => (await layerNames()).join() === expected.join();
      await until('the garbage to be collected', 20_000, areThese).catch(() => undefined);
      expect(await layerNames()).to.deep.equal(expected);
    }
    /** What the layers take, when the files of those that were removed are gone. */
    async function settled(): Promise<StoreSpace> {
      return until('the removed files to be gone', 20_000, async () => {
        const space = await host.space();
        return space.strays.length === 0 && space;
      });
    }
    /** Runs a container for the time of `look`. @param look gets its root, as the container has it */
    async function inside<T>(of: string, look: (root: string, id: string) => T | Promise<T>): Promise<T> {
      const id = await run(
        'run',
        '--detach',
        '--network',
        'none',
        '--stop-timeout',
        '0',
        of,
        'sleep',
        '1000',
      );
      const pid = await run('inspect', '--format', '{{.State.Pid}}', id);
      try {
        return await look(`/proc/${pid}/root`, id);
      } finally {
        await run('rm', '--force', id);
      }
    }
    const treeOf = (of: string) => inside(of, root => readWholeTree(join(root, 'opt')));

    it('S1 runs a container in a layer of its own, which goes with it', async () => {
      expect(await run('info', '--format', '{{.Driver}}')).to.equal('varve');
      await inside(name, async (root, id) => {
        writeFileSync(join(root, 'opt/all/empty'), 'written');
        const own = (await host.list()).filter(({ kind }) => kind === 'active');
        expect(own.map(layer => layer.name.split('/').slice(2))).to.deep.equal([[id]]);
      });
      await untilLayers(initial);
      expect(await inContainer(engine, [], 'cat /opt/all/empty', name)).to.equal('');
    });

    it('refuses the limit of one container, which this driver cannot put under it any more: nothing is ignored', async () => {
      const words = ['--detach', '--network', 'host', '--stop-timeout', '0', '--storage-opt', 'size=64M'];
      const id = await run('run', ...words, 'busybox', 'sleep', '1000');
      const { name: layer } = await until('the refusal', 10_000, async () =>
        (await host.list()).find(({ name: each, labels }) => each.endsWith(id) && refusedLabel in labels),
      );
      const reason = 'size=64M: the layer driver overlay cannot limit a layer that is in use; ';
      const { stdout } = await host.daemon.varve('layer', 'inspect', layer);
      const [shown] = JSON.parse(stdout) as [LayerView];
      expect(shown.labels[refusedLabel]).to.include(reason);
      const logged = host.daemon
        .log()
        .split(`the container ${id.slice(0, 12)} does not get the limit ${reason}`);
      expect(logged).to.have.length(2);
    });

    it('S2 keeps the layers that two images share once', async () => {
      const before = await settled();
      for (const each of ['left', 'right']) {
        const top = await makeLayer(scratch, each, [file(`opt/${each}`, each.repeat(10_000))]);
        const { path } = await makeTestImage(scratch, each, [...layers, top]);
        await run('load', '--quiet', '--input', path);
      }
      const after = await settled();
      expect(after.layers).to.have.length(before.layers.length + 2);
      expect(after.totals.total - before.totals.total).to.be.within(90_000, 150_000);
      expect(after.totals.shared).to.equal(before.totals.total);
      const { stdout: tree } = await host.daemon.varve('layer', 'tree', '--store', 'containerd');
      expect(tree.match(/by 2/g)).to.have.length(initial.length);
      expect(tree)
        .to.match(/image varve\/left:1/)
        .and.match(/image varve\/right:1/);
    });

    it('S3 the topmost layer wins, and a write costs what it changes', async () => {
      await inside(name, async (root, id) => {
        expect(readFileSync(join(root, 'opt/becomes-file'), 'utf8')).to.equal('a file where a directory was');
        const spaceOf = async () =>
          (await host.space()).layers.find(({ name: layer }) => layer.endsWith(id))?.usage?.bytes ?? 0;
        const empty = await spaceOf();
        writeFileSync(join(root, 'opt/new'), 'n'.repeat(20_000));
        rmSync(join(root, 'opt/all/large'));
        expect((await spaceOf()) - empty).to.be.within(20_000, 40_000);
        expect((await run('diff', id)).split('\n').sort()).to.deep.equal([
          ...['A /opt/new', 'C /opt', 'C /opt/all', 'D /opt/all/large'],
        ]);
        const size = await run('ps', '--size', '--no-trunc', '--filter', `id=${id}`, '--format', '{{.Size}}');
        expect(size).to.match(/^[2-4]\d(\.\d+)?kB \(virtual /);
      });
    });

    it('commits, saves, loads and exports what a container is, to the last attribute', async () => {
      const committed = await inside(name, async (root, id) => {
        writeFileSync(join(root, 'opt/kept'), 'kept');
        rmSync(join(root, 'opt/all/note'));
        const exported = join(scratch, 'exported.tar');
        await run('export', '--output', exported, id);
        const { stdout } = await must('tar', ['--list', '--file', exported]);
        expect(stdout.split('\n')).to.include.members(['opt/kept', 'opt/all/again']);
        await run('commit', id, 'committed');
        return readWholeTree(join(root, 'opt'));
      });
      expect(treeDifferences(await treeOf('committed'), committed)).to.deep.equal([]);
      expect(committed.get('all/again')).to.have.property('user.comment');
      expect(committed.get('all/ping')).to.have.property('security.capability');
      const saved = join(scratch, 'saved.tar');
      await run('save', '--output', saved, 'committed');
      await run('rmi', '--force', 'committed');
      await untilLayers(initial);
      await run('load', '--quiet', '--input', saved);
      expect(treeDifferences(await treeOf('committed'), committed)).to.deep.equal([]);
    });

    it(`builds an image of several stages and ${deep} layers, and again from its cache`, async () => {
      const context = join(scratch, 'context');
      mkdirSync(context);
      copyFileSync(layers[0] ?? '', join(context, 'base.tar'));
      copyFileSync(layers[1] ?? '', join(context, 'everything.tar'));
      const files = Array.from({ length: deep - 6 }, (_, number) => `file-${number}`);
      for (const each of files) writeFileSync(join(context, each), `${each}\n`);
      writeFileSync(
        join(context, 'Dockerfile'),
        `FROM scratch AS base
ADD base.tar /
ADD everything.tar /
RUN rm -r /opt/gone && mkdir /opt/gone && echo reborn > /opt/gone/new
FROM base AS tool
RUN echo made > /tool && mkdir /big && head -c 3000000 /dev/zero > /big/zeros
FROM base
${files.map(each => `COPY ${each} /many/${each}`).join('\n')}
RUN rm /many/file-3 && ln /opt/all/large /opt/all/hard && mv /many/file-4 /many/moved
COPY --from=tool /tool /tool
RUN sleep 0
`,
      );
      const id = await buildWithBuildKit(engine, context, 'built:1');
      const counted = await run('inspect', '--format', '{{len .RootFS.Layers}}', 'built:1');
      expect(Number(counted)).to.be.within(deep - 1, deep);
      await inside('built:1', root => {
        expect(readFileSync(join(root, 'tool'), 'utf8')).to.equal('made\n');
        expect(readFileSync(join(root, 'opt/gone/new'), 'utf8')).to.equal('reborn\n');
        expect(readFileSync(join(root, 'many/moved'), 'utf8')).to.equal('file-4\n');
        expect(readdirSync(join(root, 'many')))
          .to.have.length(files.length - 1)
          .and.not.to.include('file-3');
        const tree = readWholeTree(join(root, 'opt'));
        expect([...tree.keys()]).not.to.include('gone/file');
        expect(tree.get('all/ping')).to.have.property('security.capability');
        expect(tree.get('all/large')).to.include({ sameAs: 'all/hard' });
      });
      const built = await layerNames();
      expect(await buildWithBuildKit(engine, context, 'built:2')).to.equal(id);
      // The directory with the Dockerfile is fetched, and kept, again.
      expect((await layerNames()).length - built.length).to.be.within(0, 1);
    });

    it('copies into and out of a container, and accounts for what it has', async () => {
      const id = await startContainer(engine, [], 'exec sleep 1000');
      const [out, copied] = [join(scratch, 'out'), join(scratch, 'copied')];
      writeFileSync(out, 'c'.repeat(30_000));
      await run('cp', out, `${id}:/root/in`);
      await run('cp', `${id}:/root/in`, copied);
      expect(statSync(copied).size).to.equal(30_000);
      const lines = (await run('system', 'df', '--format', '{{json .}}')).split('\n');
      const kinds = lines.map(line => JSON.parse(line) as { Type: string; Size: string; Active: string });
      expect(kinds.find(({ Type }) => Type === 'Containers')).to.include({ Active: '1' });
      expect(kinds.find(({ Type }) => Type === 'Containers')?.Size).to.match(/^[3-5]\d(\.\d+)?kB$/);
      expect(kinds.find(({ Type }) => Type === 'Images')?.Size).to.match(/^\d+(\.\d+)?MB$/);
    });

    it(`starts and removes ${many} containers of one image, which costs the image nothing`, async () => {
      const before = await settled();
      const numbers = Array.from({ length: many }, (_, number) => number).values();
      const worker = async () => {
        for (const number of numbers) {
          const script = `echo ${number} > /own; cat /own /opt/opaque/shown`;
          expect(await inContainer(engine, [], script, name)).to.equal(`${number}\nnew`);
        }
      };
      await Promise.all(Array.from({ length: 4 }, worker));
      await untilLayers(initial);
      expect((await settled()).totals).to.deep.equal(before.totals);
    });

    it('gives back the space of images that are pruned', async () => {
      const other = await makeTestImage(scratch, 'pruned', [
        layers[0] ?? '',
        await makeLayer(scratch, 'pruned', [file('large', Buffer.alloc(2_000_000, 'p'))]),
      ]);
      await run('load', '--quiet', '--input', other.path);
      const full = await settled();
      const keep = await run('create', name);
      const busybox = await run('create', 'busybox');
      expect(await run('image', 'prune', '--all', '--force')).to.include(imageName('pruned').slice(10));
      await run('rm', keep, busybox);
      await untilLayers(initial);
      const { totals } = await settled();
      expect(full.totals.total - totals.total).to.be.at.least(2_000_000);
    });
  }),
);
