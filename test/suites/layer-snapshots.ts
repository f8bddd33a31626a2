import { lstatSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { FailedPrecondition, InvalidArgument, NotFound } from '../../src/errors/errors.ts';
import {
  chmod,
  chown,
  directory,
  file,
  hardLink,
  readTree,
  remove,
  rename,
  type TreeChange,
  time,
} from '../support/layer-tree.ts';
import {
  collect,
  commit,
  contents,
  flat,
  type LayerExceptions,
  type MountingWorld,
  prepare,
  withMount,
  write,
} from '../support/layer-world.ts';
import { isLong } from '../support/long.ts';
import { rejection } from '../support/rejection.ts';

/**
 * The cases of containerd's snapshotter suite (core/snapshots/testsuite) by their names, with layers that are really
 * mounted. Update, Walk, StatInWalk and CloseTwice touch no files: the metadata suite has them.
 */
export function layerSnapshotSuite(open: () => Promise<MountingWorld>, exceptions: LayerExceptions): void {
  let world: MountingWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  /** Commits layers one on the other, and compares each with a plain directory that went through the same. */
  const checkLayers = async (...layers: readonly (readonly TreeChange[])[]): Promise<void> => {
    let parent: string | undefined;
    for (const [index, changes] of layers.entries()) {
      const name = `layer ${index} on ${parent ?? 'nothing'}`;
      await commit(world, name, parent, changes);
      const expected = flat(world, ...layers.slice(0, index + 1));
      expect(await contents(world, name), name).to.deep.equal(expected);
      parent = name;
    }
  };

  it('Basic', async () => {
    const { store } = world;
    const initial = [
      ...[file('/foo', 'foo\n', 0o777), directory('/a')],
      ...[directory('/a/b'), directory('/a/b/c')],
    ];
    const next = [file('/bar', 'bar\n', 0o777), file('/foo', 'bar\n', 0o777), remove('/a/b')];
    await prepare(world, 'preparing', {}, initial);
    await store.commit('committed', 'preparing');
    const first = await store.stat('committed');
    expect(first).to.include({ parent: null, kind: 'committed' });
    expect(await rejection(store.stat('preparing'))).to.be.instanceOf(NotFound);
    await prepare(world, 'next', { parent: 'committed' });
    expect(await contents(world, 'next')).to.deep.equal(flat(world, initial));
    await write(world, 'next', next);
    expect(await store.stat('next')).to.include({ parent: 'committed', kind: 'active' });
    await store.commit('committed-next', 'next');
    const second = await store.stat('committed-next');
    expect(second).to.include({ parent: 'committed', kind: 'committed' });
    expect(await collect(store.walk())).to.deep.equal([first, second]);
    const view = await store.view('view', { parent: 'committed-next' });
    expect(await withMount(world, view, path => readTree(path))).to.deep.equal(flat(world, initial, next));
    await store.remove('view');
    const refused = await rejection(store.remove('committed'));
    expect(refused).to.be.instanceOf(FailedPrecondition);
    expect(refused.message).to.contain('remove');
    await store.remove('committed-next');
    await store.remove('committed');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('StatActive', async () => {
    await prepare(world, 'preparing', {}, [file('/foo', 'foo\n')]);
    const info = await world.store.stat('preparing');
    expect(info).to.include({ name: 'preparing', kind: 'active', parent: null });
  });

  it('StatComitted', async () => {
    await commit(world, 'committed', undefined, [file('/foo', 'foo\n')]);
    const info = await world.store.stat('committed');
    expect(info).to.include({ name: 'committed', kind: 'committed', parent: null });
  });

  it('TransitivityTest', async () => {
    await commit(world, 'A', undefined, [file('/foo', 'foo\n')]);
    const { parent } = await commit(world, 'B', 'A', [file('/foo', 'foo bar\n')]);
    expect(parent).to.equal('A');
    expect(await world.store.stat('A')).to.include({ parent: null });
  });

  it('PreareViewFailingtest', async () => {
    const { store } = world;
    await commit(world, 'A', undefined);
    await store.prepare('prepared', { parent: 'A' });
    await store.view('viewed', { parent: 'A' });
    for (const key of ['prepared', 'viewed', 'A']) {
      await rejection(store.prepare(key, { parent: 'A' }));
      await rejection(store.view(key, { parent: 'A' }));
    }
    expect(await rejection(store.prepare('new', { parent: 'prepared' }))).to.be.instanceOf(InvalidArgument);
  });

  it('Remove: what held the key before is not seen again', async () => {
    const { store } = world;
    await commit(world, 'committed-1', undefined, [file('/old', 'old')]);
    await prepare(world, 'reuse-1', { parent: 'committed-1' }, [file('/mine', 'x')]);
    await store.remove('reuse-1');
    await store.view('reuse-1', { parent: 'committed-1' });
    expect(await contents(world, 'reuse-1')).to.deep.equal(flat(world, [file('/old', 'old')]));
    await store.remove('reuse-1');
    await store.prepare('reuse-1');
    expect(await contents(world, 'reuse-1')).to.deep.equal(flat(world));
    await store.remove('committed-1');
    await store.commit('committed-1', 'reuse-1');
    expect(await contents(world, 'committed-1')).to.deep.equal(flat(world));
  });

  it('LayerFileupdate (docker#21555): also within a second, and with the same size and time', async () => {
    for (let round = 0; round < 5; round += 1) {
      const names = [`base ${round}`, `top ${round}`] as const;
      const base = [
        directory('/etc', 0o700),
        file('/etc/hosts', 'mydomain 10.0.0.1'),
        file('/etc/profile', 'PATH=/usr/bin'),
        time('/etc/hosts', 1_000_000_000),
      ];
      const top = [
        file('/etc/hosts', 'mydomain 10.0.0.2'),
        file('/etc/profile', 'PATH=/usr/bin', 0o666),
        directory('/root', 0o700),
        file('/root/.bashrc', 'PATH=/usr/sbin:/usr/bin'),
        time('/etc/hosts', 1_000_000_000),
      ];
      await commit(world, names[0], undefined, base);
      await commit(world, names[1], names[0], top);
      expect(await contents(world, names[0])).to.deep.equal(flat(world, base));
      expect(await contents(world, names[1])).to.deep.equal(flat(world, base, top));
    }
  });

  it('RemoveDirectoryInLowerLayer (docker#25244)', () =>
    checkLayers(
      [directory('/lib', 0o700), file('/lib/hidden', '')],
      [remove('/lib'), directory('/lib', 0o700), file('/lib/not-hidden', '')],
      [file('/lib/newfile', '')],
    ));

  it('Chown (docker#20240, docker#24913, docker#28391)', () => {
    const paths = ['/opt', '/opt/a', '/opt/a/b', '/opt/a/b/file.txt'];
    return checkLayers(
      [directory('/opt/a/b', 0o700), file('/opt/a/b/file.txt', 'hello')],
      paths.map(path => chown(path, 1, 1)),
    );
  });

  it('DirectoryPermissionOnCommit (docker#27298)', () =>
    checkLayers(
      [
        ...['/dir1', '/dir2', '/dir3', '/dir4', '/dir5'].map(path => directory(path, 0o700)),
        ...[file('/dir4/f1', '...'), file('/dir5/f1', '...')],
        ...['/dir1', '/dir2', '/dir3', '/dir5', '/dir5/f1'].map(path => chown(path, 1, 1)),
      ],
      [chown('/dir2', 0, 0), remove('/dir3'), chown('/dir4', 1, 1), chown('/dir4/f1', 1, 1)],
      [
        ...[directory('/dir3', 0o700), chown('/dir3', 1, 1)],
        ...[remove('/dir5'), directory('/dir5', 0o700), chown('/dir5', 1, 1)],
      ],
    ));

  it('RemoveIntermediateSnapshot', async () => {
    const { store } = world;
    await commit(world, 'base', undefined);
    await commit(world, 'inter', 'base');
    await store.prepare('top', { parent: 'inter' });
    expect(await rejection(store.remove('inter'))).to.be.instanceOf(FailedPrecondition);
    for (const name of ['top', 'inter', 'base']) await store.remove(name);
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('DeletedFilesInChildSnapshot', () =>
    checkLayers([file('/foo', 'foo\n', 0o777), file('/foobar', 'foobar\n', 0o777)], [remove('/foobar')], []));

  it('MoveFileFromLowerLayer', () =>
    checkLayers(
      [
        ...[directory('/dir1', 0o700), file('/dir1/f1', 'Hello')],
        ...[directory('/dir2', 0o700), file('/dir2/f2', '...')],
      ],
      [
        ...[directory('/dir3', 0o700), file('/dir3/f1', 'Hello'), remove('/dir1')],
        ...[hardLink('/dir2/f2', '/dir3/f2'), remove('/dir2/f2')],
      ],
    ));

  it('ViewReadonly: of no layer, of one and of two, at the mount and not by modes', async () => {
    const { store } = world;
    await commit(world, 'one', undefined, [file('/file', 'x', 0o666)]);
    await commit(world, 'two', 'one', [file('/other', 'x', 0o666)]);
    for (const parent of [undefined, 'one', 'two']) {
      const sources = await store.view(`view of ${parent}`, parent === undefined ? {} : { parent });
      await withMount(world, sources, path => {
        expect(() => writeFileSync(join(path, 'new'), 'x'), parent).to.throw(/EROFS/);
        if (parent !== undefined) {
          expect(() => writeFileSync(join(path, 'file'), 'x'), parent).to.throw(/EROFS/);
        }
      });
    }
  });

  it('RootPermission: 0755 and root on an empty layer, and those of the parent on it', async () => {
    await prepare(world, 'preparing', {});
    expect((await contents(world, 'preparing'))[0]).to.equal('/ 40755 0:0');
    await write(world, 'preparing', [chmod('', 0o1701), chown('', 3, 4)]);
    await world.store.commit('committed', 'preparing');
    await world.store.prepare('child', { parent: 'committed' });
    expect((await contents(world, 'child'))[0]).to.equal('/ 41701 3:4');
    expect((await contents(world, 'committed'))[0]).to.equal('/ 41701 3:4');
  });

  const files = [
    ...[directory('/dir1', 0o700), directory('/somefiles', 0o700)],
    ...[file('/somefiles/f1', 'was here first!'), file('/somefiles/f2', 'nothing interesting')],
  ];
  const renames = [
    file('/somefiles/f1-overwrite', 'new content 1'),
    rename('/somefiles/f1-overwrite', '/somefiles/f1'),
    rename('/somefiles/f2', '/somefiles/f3'),
  ];

  if (exceptions.renamesDirectories) {
    it('Rename (docker#25409): files and directories', () =>
      checkLayers(files, [rename('/dir1', '/dir2'), ...renames]));
  } else {
    it('Rename (docker#25409): files; a directory of a lower layer is EXDEV here, as programs expect', async () => {
      await checkLayers(files, renames);
      await commit(world, 'base', undefined, files);
      await prepare(world, 'key', { parent: 'base' }, [
        root => expect(() => rename('/dir1', '/dir2')(root)).to.throw(/EXDEV/),
        directory('/own'),
        rename('/own', '/mine'),
      ]);
    });
  }

  if (isLong || (exceptions.isFirst && exceptions.deepest >= 100)) {
    it('128LayersMount', async function () {
      this.timeout(120_000);
      const layers = [
        [
          ...[file('/bottom', 'way at the bottom\n', 0o777), file('/overwriteme', 'FIRST!\n', 0o777)],
          ...[directory('/addhere'), directory('/onlyme'), file('/onlyme/bottom', 'bye!\n', 0o777)],
        ],
        ...Array.from({ length: 127 }, (_, index) => [
          file('/overwriteme', `${index + 1} WAS HERE!\n`, 0o777),
          file(`/addhere/file-${index + 1}`, 'same\n', 0o755),
          remove('/onlyme'),
          directory('/onlyme'),
          file(`/onlyme/file-${index + 1}`, 'only me!\n', 0o777),
        ]),
      ];
      let parent: string | undefined;
      for (const [index, changes] of layers.entries()) {
        await commit(world, `${index}`, parent, changes);
        parent = `${index}`;
      }
      for (const depth of [2, 64, 128]) {
        const expected = flat(world, ...layers.slice(0, depth));
        expect(await contents(world, `${depth - 1}`), `${depth} layers`).to.deep.equal(expected);
      }
      await world.store.prepare('container', { parent: '127' });
      expect(await contents(world, 'container')).to.deep.equal(flat(world, ...layers));
    });
  }

  it('an empty directory over one of a lower layer can be removed, and what was beneath stays away', async () => {
    await commit(world, 'base', undefined, [directory('/dir'), file('/dir/file', 'x')]);
    await prepare(world, 'key', { parent: 'base' }, [
      remove('/dir/file'),
      root => rmdirSync(join(root, 'dir')),
      root => expect(() => lstatSync(join(root, 'dir'))).to.throw(/ENOENT/),
      directory('/dir'),
    ]);
    await world.store.commit('top', 'key');
    expect(await contents(world, 'top')).to.deep.equal(flat(world, [directory('/dir')]));
  });
}
