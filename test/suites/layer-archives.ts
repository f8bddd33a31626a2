import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { FailedPrecondition, InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import { archiveOf, difference, digestOf, inPieces, register } from '../support/layer-archive.ts';
import {
  chmod,
  chown,
  directory,
  file,
  hardLink,
  randomBytes,
  remove,
  symbolicLink,
} from '../support/layer-tree.ts';
import {
  collect,
  commit,
  contents,
  flat,
  type LayerWorld,
  prepare,
  withMount,
} from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';

const lower = [
  directory('/etc'),
  file('/etc/hosts', 'mydomain 10.0.0.1'),
  file('/etc/profile', 'PATH=/usr/bin'),
];
const upper = [
  ...[
    directory('/etc'),
    file('/etc/hosts', 'mydomain 10.0.0.2'),
    file('/etc/profile', 'PATH=/usr/bin', 0o664),
  ],
  ...[directory('/root'), file('/root/.bashrc', 'PATH=/usr/sbin:/usr/bin'), chown('/root/.bashrc', 5, 6)],
  ...[hardLink('/root/.bashrc', '/root/again'), symbolicLink('.bashrc', '/root/link')],
];

/** The digest of one archive as each driver writes it, by the driver: all that run in this process compare. */
const exported = new Map<string, string>();

/** The cases of moby's layer store (daemon/internal/layer) that concern one like ours, by their names. */
export function layerArchiveSuite(open: () => Promise<LayerWorld>, title: string): void {
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  it('MountAndRegister', async () => {
    const archive = await archiveOf(world, [file('/testfile.txt', 'some test data')]);
    expect(await register(world, 'layer', undefined, archive)).to.equal(digestOf(archive));
    await withMount(world, await world.store.prepare('new-test-mount', { parent: 'layer' }), path => {
      expect(readFileSync(join(path, 'testfile.txt'), 'utf8')).to.equal('some test data');
    });
    await world.store.remove('new-test-mount');
  });

  it('LayerRelease: a layer goes when nothing rests on it', async () => {
    const { store } = world;
    await commit(world, 'layer1', undefined, [file('/layer1.txt', 'layer 1 file')]);
    await commit(world, 'layer2', 'layer1', [file('/layer2.txt', 'layer 2 file')]);
    await commit(world, 'layer3a', 'layer2', [file('/layer3.txt', 'layer 3a file')]);
    await commit(world, 'layer3b', 'layer2', [file('/layer3.txt', 'layer 3b file')]);
    for (const name of ['layer1', 'layer2']) {
      expect(await rejection(store.remove(name))).to.be.instanceOf(FailedPrecondition);
    }
    await store.remove('layer3b');
    expect(await rejection(store.remove('layer2'))).to.be.instanceOf(FailedPrecondition);
    expect(await contents(world, 'layer3a')).to.deep.equal(
      flat(
        world,
        [1, 2].map(n => file(`/layer${n}.txt`, `layer ${n} file`)),
        [file('/layer3.txt', 'layer 3a file')],
      ),
    );
    for (const name of ['layer3a', 'layer2', 'layer1']) await store.remove(name);
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('StoreRestore: layers, and what is written to one, are there after a restart', async () => {
    await commit(world, 'layer1', undefined, [file('/layer1.txt', 'layer 1 file')]);
    await commit(world, 'layer2', 'layer1', [file('/layer2.txt', 'layer 2 file')]);
    await prepare(world, 'mount', { parent: 'layer2' }, [file('/testfile.txt', 'nothing here')]);
    const before = await collect(world.store.walk());
    const [tree, mounts] = [await contents(world, 'mount'), await world.store.mounts('mount')];
    const store = await world.reopen();
    expect(await collect(store.walk())).to.deep.equal(before);
    expect(await store.mounts('mount')).to.deep.equal(mounts);
    expect(await contents(world, 'mount')).to.deep.equal(tree);
    await store.remove('mount');
    expect(await rejection(store.remove('mount'))).to.be.instanceOf(NotFound);
  });

  it('TarStreamStability: a layer is exported the same to the byte each time, and as the next driver does', async () => {
    const archives = [await archiveOf(world, lower), await archiveOf(world, upper)] as const;
    await register(world, 'layer1', undefined, archives[0]);
    await register(world, 'layer2', 'layer1', archives[1]);
    const first = await difference(world, 'layer1', 'layer2');
    await world.reopen();
    expect(await difference(world, 'layer1', 'layer2')).to.deep.equal(first);
    await world.store.prepare('copy', { parent: 'layer1' });
    const applied = await world.store.apply('copy', inPieces(first));
    expect(applied.diffId).to.equal(digestOf(first));
    await world.store.commit('again', 'copy');
    expect(await difference(world, 'layer1', 'again')).to.deep.equal(first);
    const whole = await difference(world, null, 'layer2');
    exported.set(title, digestOf(Buffer.concat([first, whole])));
    expect([...new Set(exported.values())], JSON.stringify([...exported])).to.have.length(1);
  });

  it('RegisterExistingLayer: the same archive under the same name is refused, and nothing is kept of it', async () => {
    const { store } = world;
    await register(world, 'layer1', undefined, await archiveOf(world, lower));
    const archive = await archiveOf(world, upper);
    const diffId = await register(world, 'layer2', 'layer1', archive);
    await store.prepare('again', { parent: 'layer1' });
    expect((await store.apply('again', { path: archive })).diffId).to.equal(diffId);
    await rejection(store.commit('layer2', 'again'));
    await store.remove('again');
    expect(await store.stat('layer2')).to.include({ diffId });
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('TarStreamVerification: verify tells which files of a layer are not what they were', async () => {
    const archive = await archiveOf(world, [
      ...[file('/foo', 'abc'), file('/bar', 'def'), file('/same', 'x')],
      ...[directory('/dir'), file('/dir/gone', 'y')],
    ]);
    await register(world, 'layer', undefined, archive);
    expect((await world.store.verify('layer')).problems).to.deep.equal([]);
    await world.tamper('layer', path => {
      const { atime, mtime } = lstatSync(join(path, 'foo'));
      writeFileSync(join(path, 'foo'), 'abd');
      utimesSync(join(path, 'foo'), atime, mtime);
      chmodSync(join(path, 'bar'), 0o600);
      remove('/dir/gone')(path);
      writeFileSync(join(path, 'dir/new'), 'z');
    });
    await world.reopen();
    const { problems, verified } = await world.store.verify('layer');
    const found = new Map(problems.map(({ path, problem }) => [path, problem]));
    expect(found.get('/foo')).to.match(/differ/);
    expect(found.get('/bar')).to.equal('attributes differ');
    expect(found.get('/dir/gone')).to.equal('missing');
    expect(found.get('/dir/new')).to.equal('unexpected');
    expect([...found.keys()]).not.to.include('/same');
    expect(verified).to.be.greaterThan(0);
  });

  it('verify has nothing to complain of in a layer that containers wrote, and knows it from then on', async () => {
    await register(world, 'base', undefined, await archiveOf(world, lower));
    await commit(world, 'layer', 'base', [file('/etc/new', 'x'), remove('/etc/hosts'), directory('/dir')]);
    const first = await world.store.verify('layer');
    expect(first.problems).to.deep.equal([]);
    expect(first.recorded).to.be.greaterThan(0);
    const second = await world.store.verify('layer');
    expect(second).to.deep.include({ problems: [], recorded: 0 });
    await world.tamper('layer', path => writeFileSync(join(path, 'etc/new'), 'y'));
    const { problems } = await world.store.verify('layer');
    expect(problems.map(({ path }) => path)).to.include('/etc/new');
  });

  it('MountInit: a layer of settings between the image and the container', async () => {
    await commit(world, 'image', undefined, [file('/testfile.txt', 'base data!')]);
    await commit(world, 'container-init', 'image', [file('/testfile.txt', 'init data!', 0o777)]);
    await world.store.prepare('container', { parent: 'container-init' });
    const expected = flat(world, [file('/testfile.txt', 'init data!', 0o777)]);
    expect(await contents(world, 'container')).to.deep.equal(expected);
  });

  it('MountSize: what a container wrote itself, and neither image nor settings', async () => {
    const { store } = world;
    await commit(world, 'image', undefined, [file('/file1', randomBytes(1 << 20, 1))]);
    await commit(world, 'container-init', 'image', [file('/file-init', randomBytes(1 << 20, 2))]);
    await prepare(world, 'container', { parent: 'container-init' }, [
      file('/file2', randomBytes(300_000, 3)),
    ]);
    const { bytes, inodes } = await store.usage('container');
    expect(bytes).to.be.within(300_000, 600_000);
    expect(inodes).to.be.within(1, 3);
    const changes = await store.changes('container-init', 'container');
    expect(changes.reduce((sum, change) => sum + change.bytes, 0)).to.equal(300_000);
  });

  it('MountChanges', async () => {
    const names = ['1', '2', '3'].map(number => `/testfile${number}.txt`);
    await commit(
      world,
      'image',
      undefined,
      names.map(name => file(name, 'base data!')),
    );
    await commit(world, 'container-init', 'image', [file('/testfile1.txt', 'init data!', 0o777)]);
    await prepare(world, 'container', { parent: 'container-init' }, [
      ...[chmod('/testfile1.txt', 0o755), file('/testfile1.txt', 'mount data!', 0o755)],
      ...[remove('/testfile2.txt'), chmod('/testfile3.txt', 0o755), file('/testfile4.txt', 'mount data!')],
    ]);
    const changes = await world.store.changes('container-init', 'container');
    expect(changes.filter(({ path }) => path !== '/')).to.deep.equal([
      { path: '/testfile1.txt', kind: 'modified', bytes: 11 },
      { path: '/testfile2.txt', kind: 'deleted', bytes: 0 },
      { path: '/testfile3.txt', kind: 'modified', bytes: 10 },
      { path: '/testfile4.txt', kind: 'added', bytes: 11 },
    ]);
  });

  it('MountApply: an archive of one layer goes onto another', async () => {
    const { store } = world;
    await commit(world, 'layer', undefined, [file('/testfile.txt', 'base data!')]);
    await commit(world, 'diff', undefined, [file('/newfile.txt', 'new data!', 0o755)]);
    await store.prepare('mount', { parent: 'layer' });
    await store.apply('mount', await store.diff(null, 'diff'));
    expect(await contents(world, 'mount')).to.deep.equal(
      flat(world, [file('/testfile.txt', 'base data!'), file('/newfile.txt', 'new data!', 0o755)]),
    );
  });

  it('an archive that is cut off leaves a layer that can only be removed', async () => {
    const { store } = world;
    const bytes = readFileSync(await archiveOf(world, upper));
    for (const length of [0, 100, 512, 2048, 3000]) {
      await store.prepare('key');
      const apply = store.apply('key', inPieces(bytes.subarray(0, length)));
      expect(await rejection(apply), `${length}`).to.be.instanceOf(InvalidArgument);
      expect(await rejection(store.commit('name', 'key'))).to.be.instanceOf(FailedPrecondition);
      expect((await store.stat('key')).damage).to.be.a('string');
      await store.remove('key');
    }
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('gzip and zstd: the digest is that of the archive inside', async () => {
    const path = await archiveOf(world, upper);
    const bytes = readFileSync(path);
    for (const [index, packed] of [gzipSync(bytes), zstdCompressSync(bytes)].entries()) {
      await world.store.prepare(`key ${index}`);
      const applied = await world.store.apply(`key ${index}`, inPieces(packed));
      const diffId = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
      expect(applied.diffId).to.equal(diffId);
      expect(await contents(world, `key ${index}`)).to.deep.equal(flat(world, upper));
    }
  });

  it('a change that keeps size and time of a file is in the difference', async () => {
    const times = (path: string) => utimesSync(path, 1_000_000_000, 1_000_000_000);
    await commit(world, 'base', undefined, [file('/file', 'old'), root => times(join(root, 'file'))]);
    await commit(world, 'layer', 'base', [file('/file', 'new'), root => times(join(root, 'file'))]);
    const changes = await world.store.changes('base', 'layer');
    expect(changes).to.deep.include({ path: '/file', kind: 'modified', bytes: 3 });
    expect((await difference(world, 'base', 'layer')).includes('new')).to.equal(true);
  });
}
