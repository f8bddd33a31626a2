import { linkSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { measureDifferenceTask, measureTask } from '../../../src/drivers/layers/archive/measure.ts';
import { cp, deepTree, quiet, Workbench } from './reading.ts';

describe('the size of a tree', () => {
  let bench: Workbench;
  let tree: string;

  beforeEach(() => {
    bench = new Workbench();
    tree = bench.directory('tree');
    mkdirSync(join(tree, 'dir'));
    writeFileSync(join(tree, 'dir/file'), Buffer.alloc(100_000, 1));
    linkSync(join(tree, 'dir/file'), join(tree, 'hard'));
    truncateSync(join(tree, 'hard'), 10_000_000);
  });

  afterEach(() => bench.close());

  const occupied = (...paths: readonly string[]) =>
    paths.reduce((sum, path) => sum + statSync(path).blocks * 512, 0);

  it('is what it occupies, its top included, hard links once, holes not', () => {
    const bytes = occupied(tree, join(tree, 'dir'), join(tree, 'hard'));
    expect(bytes).to.be.lessThan(1_000_000);
    expect(measureTask({ tree: bench.open(tree) }, quiet)).to.deep.equal({ bytes, inodes: 3 });
  });

  it('is known however deep it is', function () {
    this.timeout(60_000);
    deepTree(bench.open(tree), 10_000);
    expect(measureTask({ tree: bench.open(tree) }, quiet).inodes).to.equal(10_003);
  });

  it('over another tree is that of the files that differ', async () => {
    const before = join(bench.path, 'before');
    await cp(tree, before);
    const difference = () =>
      measureDifferenceTask({ before: bench.open(before), after: bench.open(tree) }, quiet);
    expect(difference()).to.deep.equal({ bytes: 0, inodes: 0 });
    writeFileSync(join(tree, 'dir/new'), Buffer.alloc(50_000, 1));
    const bytes = occupied(join(tree, 'dir'), join(tree, 'dir/new'));
    expect(difference()).to.deep.equal({ bytes, inodes: 2 });
  });
});
