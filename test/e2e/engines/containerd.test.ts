import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { Kind } from '../../../src/wire/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { imageName, makeTestImage, makeTestLayers } from '../../support/engine-image.ts';
import type { ImageArchive } from '../../support/image-archive.ts';
import { SnapshotterHost } from '../../support/snapshotter-host.ts';
import { readWholeTree, treeDifferences } from '../../support/whole-tree.ts';

describe('containerd with its images and containers in varve', function () {
  this.timeout(120_000);
  let scratch: string;
  let host: SnapshotterHost;
  let plain: ImageArchive;
  let gzip: ImageArchive;
  /** Whether containerd can have the differ of another program: from 1.7 on. */
  let takesDiffers: boolean;

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'varve-images-'));
    const layers = await makeTestLayers(scratch);
    plain = await makeTestImage(scratch, 'plain', layers);
    gzip = await makeTestImage(scratch, 'gzip', layers, { gzip: true });
    host = await SnapshotterHost.start();
    takesDiffers = (await host.containerd.version()) !== '1.6';
  });
  after(async () => {
    await host?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });
  afterEach(() => host.clear());

  const ctr = (...words: readonly string[]) => host.containerd.ctr(...words);
  const load = ({ path }: ImageArchive, snapshotter = 'varve') =>
    ctr('images', 'import', '--digests', '--snapshotter', snapshotter, path);
  const run = (image: string, id: string, script: string) =>
    host.containerd.run('varve', imageName(image), id, script);

  for (const compression of ['plain', 'gzip'] as const) {
    it(`S1 imports an image of ${compression} layers, with our differ where it can, and runs it`, async () => {
      const image = compression === 'plain' ? plain : gzip;
      await load(image);
      const layers = (await host.list()).filter(({ kind }) => kind === 'committed');
      const diffIds = layers.map(({ diffId }) => diffId).sort();
      expect(diffIds).to.deep.equal(takesDiffers ? [...image.diffIds].sort() : [null, null, null]);
      const script = 'cat /opt/opaque/shown; ls /opt; echo written > /opt/all/empty';
      expect(await run(compression, 'first', script)).to.equal(
        'newall\nbecomes-directory\nbecomes-file\nopaque',
      );
      expect(await run(compression, 'second', 'cat /opt/all/empty')).to.equal('');
    });
  }

  it('shows what overlayfs shows of an image, to the last extended attribute', async () => {
    const look = async (snapshotter: string) => {
      await load(plain, snapshotter);
      return host.containerd.mounting(plain, readWholeTree, snapshotter);
    };
    const [ours, theirs] = [await look('varve'), await look('overlayfs')];
    expect([...ours.keys()]).to.include('opt/all/latin1-\xe9');
    expect(ours.get('opt/all/ping')).to.have.property('security.capability');
    // The top has the time at which containerd 1.6 unpacks it.
    expect(treeDifferences(ours, theirs).filter(line => !line.startsWith(': mtime'))).to.deep.equal([]);
  });

  it('S2 keeps the layers that two images share once, until the last of them is removed', async () => {
    await load(plain);
    await load(gzip);
    expect(await host.list()).to.have.length(3);
    await ctr('images', 'rm', '--sync', ...(await names('gzip')));
    expect(await host.list()).to.have.length(3);
    expect(await run('plain', 'still', 'cat /opt/opaque/shown')).to.equal('new');
  });

  it('answers every verb of `ctr snapshots`', async () => {
    await load(plain);
    const { chainId: top } = plain;
    const point = join(scratch, 'point');
    mkdirSync(point, { recursive: true });

    const prepared = await host.snapshots('prepare', '--target', point, 'container one/first', top);
    const [program = '', ...words] = prepared.split(' ');
    await must(program, words);
    try {
      writeFileSync(join(point, 'opt/new'), 'n'.repeat(100_000));
      rmSync(join(point, 'opt/all/large'));
    } finally {
      await must('umount', [point]);
    }
    expect(await host.snapshots('mounts', point, 'container one/first')).to.equal(prepared);
    expect(JSON.parse(await host.snapshots('info', 'container one/first'))).to.deep.include({
      ...{ Kind: 'Active', Name: 'container one/first', Parent: top },
    });
    const [, usage = ''] = (await host.snapshots('usage', '-b', 'container one/first')).split('\n');
    expect(Number(/\s(\d+)\s/.exec(usage)?.[1])).to.be.within(100_000, 150_000);
    await host.snapshots('label', 'container one/first', 'containerd.io/snapshot/note=yes');
    const [active] = (await host.list()).filter(({ kind }) => kind === 'active');
    expect(active?.labels).to.deep.equal({ 'containerd.io/snapshot/note': 'yes' });
    expect(await host.snapshots('tree')).to.include('container one/first');

    const archive = join(scratch, 'diff.tar.gz');
    await host.containerd.ctrTo(
      archive,
      'snapshots',
      '--snapshotter',
      'varve',
      'diff',
      'container one/first',
    );
    const { stdout } = await must('tar', ['--list', '--gzip', '--file', archive]);
    expect(stdout.split('\n')).to.include.members(['opt/new', 'opt/all/.wh.large']);
    expect(stdout).not.to.include('busybox');

    await host.snapshots('commit', 'image/second', 'container one/first');
    expect(JSON.parse(await host.snapshots('info', 'image/second'))).to.deep.include({ Kind: 'Committed' });
    // Nothing else keeps a view of `ctr` from the garbage collector, which the end of the diff has called.
    await ctr('content', 'prune', 'references');
    await host.snapshots('view', '--target', point, 'look', 'image/second');
    await host.snapshots('label', 'look', 'containerd.io/gc.root=yes');
    const refused = await host.containerd.tryCtr('snapshots', '--snapshotter', 'varve', 'rm', 'image/second');
    expect(refused.stderr).to.match(/has (\d+ )?child|failed precondition/i);
    const infos = await host.containerd.infos('varve');
    const made = infos.filter(({ name }) => !name.startsWith('sha256:'));
    expect(made.map(({ name, parent, kind }) => [name, parent, kind])).to.deep.equal([
      ['image/second', top, Kind.COMMITTED],
      ['look', 'image/second', Kind.VIEW],
    ]);
    await host.snapshots('rm', 'look');
    await host.snapshots('rm', 'image/second');
    expect(await host.snapshots('ls')).not.to.include('second');
  });

  it('S3 commits what a container wrote, and the next one sees it', async () => {
    await load(gzip);
    const words = ['--snapshotter', 'varve', '--cgroup', '', imageName('gzip'), 'writer', '/bin/sh', '-c'];
    await ctr('run', ...words, 'echo kept > /opt/kept; rm /opt/all/note');
    await host.snapshots('commit', 'written', 'writer');
    await host.snapshots('prepare', 'reader', 'written');
    const [mount] = JSON.parse(await host.snapshots('prepare', '--mounts', 'second', 'written')) as unknown[];
    expect(mount).to.have.property('Type', 'overlay');
    const point = join(scratch, 'reader');
    mkdirSync(point);
    const [program = '', ...args] = (await host.snapshots('mounts', point, 'reader')).split(' ');
    await must(program, args);
    try {
      expect(readFileSync(join(point, 'opt/kept'), 'utf8')).to.equal('kept\n');
      const tree = readWholeTree(join(point, 'opt/all'));
      expect([...tree.keys()])
        .to.include('again')
        .and.not.to.include('note');
    } finally {
      await must('umount', [point]);
    }
  });

  async function names(image: string): Promise<readonly string[]> {
    const all = (await ctr('images', 'ls', '--quiet')).split('\n');
    const { manifest } = image === 'plain' ? plain : gzip;
    return all.filter(name => name === imageName(image) || name.endsWith(manifest));
  }
});
