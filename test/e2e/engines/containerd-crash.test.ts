import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Result } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import { ContainerdClient } from '../../../src/host/linux/containerd-client.ts';
import { Snapshots } from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { keptLabels as labels } from '../../support/containerd.ts';
import { onLaterEngines } from '../../support/engine.ts';
import { imageName, makeTestImage, makeTestLayers } from '../../support/engine-image.ts';
import type { ImageArchive } from '../../support/image-archive.ts';
import { SnapshotterHost } from '../../support/snapshotter-host.ts';

const clients = 64;
describe('containerd and varve under load, and when one of them dies', function () {
  this.timeout(120_000);
  let scratch: string;
  let host: SnapshotterHost;
  let image: ImageArchive;
  let other: ImageArchive;
  let client: ContainerdClient;

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'varve-images-'));
    const layers = await makeTestLayers(scratch);
    image = await makeTestImage(scratch, 'all', layers);
    other = await makeTestImage(scratch, 'other', layers.slice(1).reverse());
    host = await SnapshotterHost.start();
    client = new ContainerdClient(host.containerd.socket);
  });
  after(async () => {
    client?.close();
    await host?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });
  afterEach(async () => {
    host.daemon.faults({});
    await host.clear();
  });

  const snapshots = () => client.service(Snapshots, 'default');
  const importWords = (path: string) => ['images', 'import', '--snapshotter', 'varve', path];
  const load = ({ path }: ImageArchive) => host.containerd.ctr(...importWords(path));
  const runs = async (name: string, snapshotter = 'varve') =>
    expect(await host.containerd.run(snapshotter, imageName(name), 'runs', 'cat /opt/opaque/shown')).to.equal(
      'new',
    );

  /** Makes, looks at, and removes layers in turn; each step is answered, whatever others do. */
  async function churn(name: string, parent: string, rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      const key = `${name} of /all/${round}`;
      const { mounts } = await snapshots().prepare({ snapshotter: 'varve', key, parent, labels });
      expect(mounts, key).to.have.length(1);
      const { info } = await snapshots().stat({ snapshotter: 'varve', key });
      expect(info, key).to.include({ name: key, parent });
      if (round % 2 === 1) {
        await snapshots().commit({ snapshotter: 'varve', name: `${key} committed`, key, labels });
        await snapshots().remove({ snapshotter: 'varve', key: `${key} committed` });
      } else await snapshots().remove({ snapshotter: 'varve', key });
    }
  }

  it(`serves ${clients} clients that make and remove layers at once`, async () => {
    await load(image);
    const { chainId: top } = image;
    const all = Array.from({ length: clients }, (_, number) => churn(`client ${number}`, top, 2));
    await Promise.all(all);
    await host.containerd.ctr('content', 'prune', 'references');
    await until('only the image to be left', 20_000, async () => (await host.list()).length === 3);
    await runs('all');
  });

  it('collects garbage while others work, and takes nothing that is in use', async () => {
    await load(image);
    const { chainId: top } = image;
    let isOver = false;
    const work = [
      ...Array.from({ length: 8 }, (_, number) => churn(`client ${number}`, top, 10)),
      ...Array.from({ length: 2 }, () => runsAgain('all', 2)),
    ];
    const garbage = async () => {
      while (!isOver) {
        await load(other);
        await host.containerd.ctr('images', 'rm', imageName('other'));
        // It fails when containerd has collected, by itself, what `ctr` has just found.
        const pruned = await host.containerd.tryCtr('content', 'prune', 'references');
        expect(pruned.stderr).to.match(/^$|not found/);
      }
    };
    const working = Promise.all(work).finally(() => {
      isOver = true;
    });
    await Promise.all([working, garbage()]);
    await host.containerd.ctr('content', 'prune', 'references');
    await until('only the image to be left', 20_000, async () => (await host.list()).length === 3);
    await runs('all');
  });

  let count = 0;
  async function runsAgain(name: string, times: number): Promise<void> {
    for (let time = 0; time < times; time += 1) {
      count += 1;
      const said = await host.containerd.run('varve', imageName(name), `runs-${count}`, 'echo it runs');
      expect(said).to.equal('it runs');
    }
  }

  it('containerd is killed in the middle of an import: the next one succeeds', async () => {
    host.daemon.faults({ 'layer.seal:before': 'hold' });
    const importing = host.containerd.tryCtr(...importWords(image.path));
    await until('the import to be at work', 20_000, async () => (await host.list()).length > 0);
    await host.containerd.kill9();
    expect((await importing).exitCode).not.to.equal(0);
    host.daemon.faults({});
    await host.containerd.restart();
    await load(image);
    await runs('all');
  });

  const whileVarveDies = (what: string, point: string) =>
    it(`varve is killed in the middle of ${what}: the next import succeeds`, async () => {
      host.daemon.faults({ [point]: 'kill' });
      const importing = host.containerd.tryCtr(...importWords(image.path));
      await host.daemon.ended();
      host.daemon.faults({});
      const { exitCode, stderr } = await importing;
      expect(exitCode, 'the import during which varve died').not.to.equal(0);
      expect(stderr).to.match(/unavailable|connection|transport|EOF/i);
      await host.daemon.start();
      await host.untilReached();
      await load(image);
      await runs('all');
    });
  whileVarveDies('an import', 'layer.make:after');
  whileVarveDies('the commit of a layer', 'layer.seal:before');
  onLaterEngines(() => whileVarveDies('the unpacking of a layer', 'layer.apply:before'));

  it('varve hangs: containerd serves others meanwhile, and all goes on when it wakes', async () => {
    await load(other);
    await host.containerd.ctr('images', 'import', '--snapshotter', 'overlayfs', image.path);
    process.kill(host.daemon.pid, 'SIGSTOP');
    let removing: Promise<Result>;
    try {
      removing = host.containerd.tryCtr('images', 'rm', '--sync', imageName('other'));
      const making = ['--timeout', '1s', 'snapshots', '--snapshotter', 'varve', 'prepare', 'late'];
      expect((await host.containerd.tryCtr(...making)).stderr).to.match(/deadline exceeded/i);
      await runs('all', 'overlayfs');
    } finally {
      process.kill(host.daemon.pid, 'SIGCONT');
    }
    expect((await removing).exitCode, 'the removal that waited for varve').to.equal(0);
    await load(image);
    await runs('all');
  });
});
