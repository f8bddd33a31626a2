import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { GraphChange, GraphClient } from '../support/graph-client.ts';
import {
  change,
  directory,
  file,
  randomBytes,
  readTree,
  remove,
  type TreeChange,
} from '../support/layer-tree.ts';
import { base, baseTree, manyFiles } from './graphtest-files.ts';
import { expectNoRoom, fill } from './layer-limits.ts';

export interface GraphExceptions {
  /** How many layers are put on top of each other. */
  readonly depth: number;
  readonly limits: boolean;
}

/** The cases of moby's graphdriver suite (daemon/graphdriver/graphtest) by their names, through the plugin's socket. */
export function graphDriverSuite(client: () => GraphClient, { depth, limits }: GraphExceptions): void {
  let driver: GraphClient;
  const write = (id: string, changes: readonly TreeChange[]) =>
    driver.within(id, path => change(path, changes));
  const verifyBase = (id: string) =>
    driver.within(id, path => {
      expect(readTree(path)).to.deep.equal(baseTree);
      expect(readdirSync(path)).to.have.length(2);
    });

  beforeEach(() => {
    driver = client();
  });

  it('DriverTestCreateEmpty', async () => {
    await driver.create('empty');
    expect(await driver.exists('empty')).to.equal(true);
    await driver.within('empty', path => {
      const { mode, uid, gid } = lstatSync(path);
      expect({ mode, uid, gid }).to.deep.equal({ mode: 0o40755, uid: 0, gid: 0 });
      expect(readdirSync(path)).to.deep.equal([]);
    });
    await driver.remove('empty');
    expect(await driver.exists('empty')).to.equal(false);
  });

  it('DriverTestCreateBase, DriverTestCreateSnap', async () => {
    await driver.createReadWrite('Base');
    await write('Base', base);
    await verifyBase('Base');
    await driver.create('Snap', 'Base');
    await verifyBase('Snap');
    await driver.remove('Snap');
    await driver.remove('Base');
  });

  it(`DriverTestDeepLayerRead: ${depth} layers`, async function () {
    this.timeout(120_000);
    await driver.create('deep-0');
    await write('deep-0', [file('/testfile.txt', 'test content', 0o755)]);
    for (let index = 1; index <= depth; index += 1) {
      const [id, parent] = [`deep-${index}`, `deep-${index - 1}`];
      await driver.create(id, parent);
      await write(id, [
        ...[file('/top-id', id), directory(`/layer-${index}`)],
        ...[file(`/layer-${index}/layer-id`, id), file(`/layer-${index}/parent-id`, parent)],
      ]);
    }
    await driver.within(`deep-${depth}`, path => {
      const read = (name: string) => readFileSync(join(path, name), 'utf8');
      let id = read('top-id');
      for (let index = depth; index > 0; index -= 1) {
        expect(read(`layer-${index}/layer-id`)).to.equal(id);
        id = read(`layer-${index}/parent-id`);
      }
      expect(read('testfile.txt')).to.equal('test content');
    });
    for (let index = depth; index >= 0; index -= 1) await driver.remove(`deep-${index}`);
  });

  it('DriverTestDiffApply', async () => {
    const doomed = 'This file should get removed in upper!';
    await driver.create('apply-base');
    await write('apply-base', [
      ...[directory('/directory-0'), ...manyFiles(10, 3)],
      ...[file('/file-remove.txt', doomed), directory('/var/lib')],
    ]);
    await driver.create('upper', 'apply-base');
    await write('upper', [...manyFiles(10, 6), remove('/file-remove.txt'), remove('/var/lib')]);
    const size = await driver.diffSize('upper', '');
    expect(size).to.equal(640);
    await driver.create('diff', 'apply-base');
    await driver.within('diff', path => {
      expect(readFileSync(join(path, 'file-remove.txt'), 'utf8')).to.equal(doomed);
      expect(readFileSync(join(path, 'directory-0/file-9'))).to.deep.equal(randomBytes(64, 12));
    });
    const archive = await driver.diff('upper', 'apply-base');
    expect(await driver.applyDiff('diff', 'apply-base', [archive])).to.equal(size);
    const trees = [];
    for (const id of ['upper', 'diff']) trees.push(await driver.within(id, path => readTree(path)));
    expect(trees[1]).to.deep.equal(trees[0]);
    expect(trees[0]?.join('\n')).to.not.match(/file-remove|lib/);
    for (const id of ['diff', 'upper', 'apply-base']) await driver.remove(id);
  });

  it('DriverTestChanges', async () => {
    await driver.create('changes-base');
    await write('changes-base', [directory('/directory-0'), ...manyFiles(20, 3)]);
    await driver.create('changed', 'changes-base');
    const expected: GraphChange[] = [{ Path: '/directory-0', Kind: 0 }];
    const changes = Array.from({ length: 20 }, (_, index): TreeChange => {
      const [path, added] = [`/directory-0/file-${index}`, `/directory-0/file-6-${index}`];
      expected.push({ Path: index % 3 === 1 ? added : path, Kind: index % 3 });
      if (index % 3 === 2) return remove(path);
      return file(index % 3 === 1 ? added : path, randomBytes(64, 6 + index), 0o755);
    });
    await write('changed', changes);
    expect(await driver.changes('changed', 'changes-base')).to.have.deep.members(expected);
    for (const id of ['changed', 'changes-base']) await driver.remove(id);
  });

  if (limits) {
    it('DriverTestSetQuota: of 50 MiB, 25 can be written and 50 more not', async () => {
      await driver.create('quota-base');
      await write('quota-base', base);
      await driver.createReadWrite('quota', 'quota-base', { size: '50M' });
      await driver.within('quota', path => {
        expect(fill(join(path, 'smallfile'), 25 << 20)).to.equal(25 << 20);
        expectNoRoom(() => fill(join(path, 'bigfile'), 50 << 20));
      });
      for (const id of ['quota', 'quota-base']) await driver.remove(id);
    });
  }
}
