import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { LayerChange } from '../../src/core/layers/layer-store.ts';
import { Unimplemented } from '../../src/errors/errors.ts';
import { difference, inPieces } from '../support/layer-archive.ts';
import { directory, file, randomBytes, readTree, remove, type TreeChange } from '../support/layer-tree.ts';
import {
  collect,
  commit,
  contents,
  flat,
  type LayerExceptions,
  type LayerWorld,
  prepare,
  withMount,
  write,
} from '../support/layer-world.ts';
import { rejection } from '../support/rejection.ts';
import { base, baseTree, manyFiles } from './graphtest-files.ts';
import { expectNoRoom, fill } from './layer-limits.ts';

/** The cases of moby's graphdriver suite (daemon/graphdriver/graphtest) by their names. */
export function layerGraphSuite(open: () => Promise<LayerWorld>, exceptions: LayerExceptions): void {
  let world: LayerWorld;

  beforeEach(async () => {
    world = await open();
  });

  afterEach(() => world.close());

  it('DriverTestCreateEmpty', async () => {
    const { store } = world;
    await withMount(world, await store.prepare('empty'), path => {
      const { mode, uid, gid } = lstatSync(path);
      expect({ mode, uid, gid }).to.deep.equal({ mode: 0o40755, uid: 0, gid: 0 });
      expect(readdirSync(path)).to.deep.equal([]);
    });
    await store.remove('empty');
    expect(await store.cleanup()).to.deep.equal({ left: 0 });
  });

  it('DriverTestCreateBase', async () => {
    await prepare(world, 'Base', {}, base);
    expect(await contents(world, 'Base')).to.deep.equal(baseTree);
  });

  it('DriverTestCreateSnap', async () => {
    await commit(world, 'Base', undefined, base);
    const sources = await world.store.prepare('Snap', { parent: 'Base' });
    await withMount(world, sources, path => {
      expect(readTree(path)).to.deep.equal(flat(world, base));
      expect(readdirSync(path)).to.have.length(2);
    });
  });

  const depth = Math.min(128, exceptions.deepest);
  it(`DriverTestDeepLayerRead: ${depth} layers, each written to`, async function () {
    this.timeout(120_000);
    await commit(world, '0', undefined, [file('/testfile.txt', 'test content', 0o755)]);
    for (let index = 1; index <= depth; index += 1) {
      const [id, parent] = [`${index}`, `${index - 1}`];
      await commit(world, id, parent, [
        ...[file('/top-id', id), directory(`/layer-${id}`)],
        ...[file(`/layer-${id}/layer-id`, id), file(`/layer-${id}/parent-id`, parent)],
      ]);
    }
    await withMount(world, await world.store.view('view', { parent: `${depth}` }), path => {
      const read = (name: string) => readFileSync(join(path, name), 'utf8');
      let id = read('top-id');
      for (let index = depth; index > 0; index -= 1) {
        expect(read(`layer-${index}/layer-id`)).to.equal(id);
        id = read(`layer-${index}/parent-id`);
      }
      expect(id).to.equal('0');
      expect(read('testfile.txt')).to.equal('test content');
    });
  });

  it('DriverTestDiffApply: what was applied shows the same, and is as large as the difference', async () => {
    const { store } = world;
    const lower = [
      ...[directory('/directory-0'), ...manyFiles(10, 3)],
      ...[file('/file-remove.txt', 'This file should get removed in upper!'), directory('/var/lib')],
    ];
    const upper = [...manyFiles(10, 6), remove('/file-remove.txt'), remove('/var/lib')];
    await commit(world, 'base', undefined, lower);
    await prepare(world, 'upper', { parent: 'base' }, upper);
    const archive = await difference(world, 'base', 'upper');
    const changes = await store.changes('base', 'upper');
    await store.prepare('diff', { parent: 'base' });
    expect(await contents(world, 'diff')).to.deep.equal(flat(world, lower));
    const applied = await store.apply('diff', inPieces(archive));
    expect(applied.bytes).to.equal(changes.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(await contents(world, 'diff')).to.deep.equal(flat(world, lower, upper));
    // The time of the top directory is in no archive.
    const [, ...below] = await contents(world, 'upper', { times: true });
    expect((await contents(world, 'diff', { times: true })).slice(1)).to.deep.equal(below);
    expect(await difference(world, 'base', 'diff')).to.deep.equal(archive);
  });

  it('DriverTestChanges', async () => {
    await commit(world, 'base', undefined, [directory('/directory-0'), ...manyFiles(20, 3)]);
    const expected: LayerChange[] = [{ path: '/directory-0', kind: 'modified', bytes: 0 }];
    const changes = Array.from({ length: 20 }, (_, index): TreeChange => {
      const path = `/directory-0/file-${index}`;
      const added = `/directory-0/file-6-${index}`;
      if (index % 3 === 0) expected.push({ path, kind: 'modified', bytes: 64 });
      if (index % 3 === 1) expected.push({ path: added, kind: 'added', bytes: 64 });
      if (index % 3 === 2) expected.push({ path, kind: 'deleted', bytes: 0 });
      if (index % 3 === 2) return remove(path);
      return file(index % 3 === 0 ? path : added, randomBytes(64, 6 + index), 0o755);
    });
    await prepare(world, 'upper', { parent: 'base' }, changes);
    const found = await world.store.changes('base', 'upper');
    expect(found).to.have.deep.members(expected);
    expect(found.map(({ path }) => path)).to.deep.equal(found.map(({ path }) => path).sort());
    await write(world, 'upper', [file('/directory-0/file-1', randomBytes(64, 100), 0o755)]);
    const more = await world.store.changes('base', 'upper');
    expect(more).to.deep.include({ path: '/directory-0/file-1', kind: 'modified', bytes: 64 });
  });

  const limit = { bytes: 50 << 20 };
  if (exceptions.limits.includes('bytes')) {
    it('DriverTestSetQuota: of 50 MiB, 25 can be written and 50 more not', async () => {
      await commit(world, 'Base', undefined, [...base, file('/big', randomBytes(1 << 20, 1))]);
      await withMount(world, await world.store.prepare('limited', { parent: 'Base', limit }), path => {
        expect(fill(join(path, 'smallfile'), 25 << 20)).to.equal(25 << 20);
        expectNoRoom(() => fill(join(path, 'bigfile'), 50 << 20));
      });
    });
  } else {
    it('DriverTestSetQuota: a limit, which this driver cannot keep, is refused', async () => {
      expect(await rejection(world.store.prepare('limited', { limit }))).to.be.instanceOf(Unimplemented);
      expect(await collect(world.store.walk())).to.deep.equal([]);
    });
  }
}
