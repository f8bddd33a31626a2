import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import { must } from '../../../scripts/lib/process.ts';
import type { Usage } from '../../../src/core/ports.ts';
import { measureDifferenceTask } from '../../../src/drivers/layers/archive/measure.ts';
import type { BtrfsDriver } from '../../../src/drivers/layers/btrfs/btrfs-driver.ts';
import { openBtrfsDriver } from '../../../src/drivers/layers/btrfs/open.ts';
import { Aborted } from '../../../src/errors/errors.ts';
import { rejection } from '../../support/rejection.ts';
import { LayerRoot, stack } from '../../support/whole-layers.ts';

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;

describe('the usage of a layer of the driver btrfs', () => {
  let root: LayerRoot;
  let driver: BtrfsDriver;

  beforeEach(async () => {
    root = await LayerRoot.make('btrfs', 1024);
    driver = await openBtrfsDriver(root.path);
  });

  afterEach(() => root.close());

  it('is what it wrote, also what is not on the disk yet, and nothing of its parent', async () => {
    await root.add(driver, 1, []);
    writeFileSync(root.tree(1, 'one'), Buffer.alloc(mebibyte, 1));
    expect(await driver.usage(stack(1))).to.deep.equal({ bytes: mebibyte, inodes: 2 });
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 0, inodes: 0 });
    writeFileSync(root.tree(2, 'two'), Buffer.alloc(2 * mebibyte, 1));
    symlinkSync('two', root.tree(2, 'link'));
    expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 2 * mebibyte + 'two'.length, inodes: 2 });
  });

  it('of a change to a big file of the parent is the block that was written', async () => {
    await root.add(driver, 1, []);
    writeFileSync(root.tree(1, 'big'), Buffer.alloc(16 * mebibyte, 1));
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    const file = openSync(root.tree(2, 'big'), 'r+');
    writeSync(file, Buffer.alloc(4096, 2), 0, 4096, 8 * mebibyte);
    closeSync(file);
    expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 4096, inodes: 0 });
  });

  it('of a file that became smaller, or a name, is nothing', async () => {
    await root.add(driver, 1, []);
    for (const name of ['a', 'b', 'c']) writeFileSync(root.tree(1, name), Buffer.alloc(64 * kibibyte, 1));
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    rmSync(root.tree(2, 'a'));
    renameSync(root.tree(2, 'b'), root.tree(2, 'moved'));
    linkSync(root.tree(2, 'c'), root.tree(2, 'linked'));
    expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 0, inodes: 0 });
  });

  it('after a merge is that of both layers', async () => {
    for (const number of [1, 2, 3]) {
      const below = [2, 1].filter(other => other < number);
      await root.add(driver, number, below);
      writeFileSync(root.tree(number, `of-${number}`), Buffer.alloc(mebibyte, number));
      if (number < 3) await root.commit(driver, number, ...below);
    }
    expect(await driver.merge(stack(3, 2, 1))).to.equal(false);
    await root.remove(driver, 2);
    expect(await driver.usage(stack(3, 1))).to.deep.equal({ bytes: 2 * mebibyte, inodes: 2 });
  });

  it('after a freeze begins anew, and the frozen layer has what there was', async () => {
    await root.add(driver, 1, []);
    writeFileSync(root.tree(1, 'before'), Buffer.alloc(mebibyte, 1));
    await root.draft(2, draft => driver.freeze(stack(1), draft));
    writeFileSync(root.tree(1, 'after'), Buffer.alloc(2 * mebibyte, 1));
    expect(await driver.usage(stack(1, 2))).to.deep.equal({ bytes: 2 * mebibyte, inodes: 1 });
    expect(await driver.usage(stack(2))).to.deep.equal({ bytes: mebibyte, inodes: 2 });
  });

  it('includes subvolumes that were made in it', async () => {
    await root.add(driver, 1, []);
    await must('btrfs', ['subvolume', 'create', root.tree(1, 'nested')]);
    writeFileSync(root.tree(1, 'nested/file'), Buffer.alloc(mebibyte, 1));
    expect(await driver.usage(stack(1))).to.deep.equal({ bytes: mebibyte, inodes: 3 });
  });

  it('can be cancelled', async () => {
    await root.add(driver, 1, []);
    expect(await rejection(driver.usage(stack(1), AbortSignal.abort()))).to.be.instanceOf(Aborted);
  });

  it('costs as much as what changed: directories without changes are not read', async () => {
    await root.add(driver, 1, []);
    for (const name of ['changed', 'unchanged']) {
      mkdirSync(root.tree(1, name));
      writeFileSync(root.tree(1, `${name}/file`), 'x');
    }
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    writeFileSync(root.tree(2, 'changed/new'), 'x');
    await must('sync', ['-f', root.disk]);
    // Read for the first time after its last change, a directory gets a new time of access (mount(8), relatime).
    const lastRead = () => statSync(root.tree(2, 'unchanged')).atimeMs;
    const before = lastRead();
    expect((await driver.usage(stack(2, 1))).inodes).to.equal(1);
    expect(lastRead()).to.equal(before);
    readdirSync(root.tree(2, 'unchanged'));
    expect(lastRead()).to.be.above(before);
  });

  it('is what the other ways to measure find: the quota of the kernel, and comparing both trees', async () => {
    await must('btrfs', ['quota', 'enable', root.disk]);
    await must('btrfs', ['quota', 'rescan', '-w', root.disk]);
    let number = 0;
    const property = fc.asyncProperty(
      fc.array(write, { maxLength: 8 }),
      fc.array(write, { maxLength: 8 }),
      async (first, second) => {
        number += 2;
        const [parent, layer] = [number - 1, number];
        await root.add(driver, parent, []);
        for (const apply of first) apply(root.tree(parent));
        await root.commit(driver, parent);
        await root.add(driver, layer, [parent]);
        for (const apply of second) apply(root.tree(layer));
        const found = await driver.usage(stack(layer, parent));
        const [exclusive, compared] = [await exclusiveBytes(root, layer), difference(root, parent, layer)];
        // Metadata are not ours, and so are the inodes of files that were there before.
        expect(Math.abs(exclusive - found.bytes)).to.be.at.most(128 * kibibyte);
        expect(Math.abs(compared.bytes - found.bytes)).to.be.at.most(second.length * 4 * kibibyte);
        expect(found.inodes).to.be.at.most(compared.inodes);
      },
    );
    await fc.assert(property, { numRuns: 10 });
  });
});

/** Writes a whole file, so that everything in it is new. */
const write = fc
  .record({ name: fc.constantFrom('a', 'b', 'c', 'd/a', 'd/b'), kibibytes: fc.integer({ min: 0, max: 512 }) })
  .map(({ name, kibibytes }) => (tree: string) => {
    mkdirSync(`${tree}/d`, { recursive: true });
    rmSync(`${tree}/${name}`, { force: true });
    writeFileSync(`${tree}/${name}`, Buffer.alloc(kibibytes * kibibyte, kibibytes));
  });

async function exclusiveBytes(root: LayerRoot, number: number): Promise<number> {
  const { stdout } = await must('btrfs', ['qgroup', 'show', '--raw', '--sync', '-f', root.tree(number)]);
  const [, , exclusive] = /^(0\/\d+) +\d+ +(\d+)/m.exec(stdout) ?? [];
  return Number(exclusive);
}

function difference(root: LayerRoot, before: number, after: number): Usage {
  const [first, second] = [openSync(root.tree(before), 'r'), openSync(root.tree(after), 'r')];
  try {
    return measureDifferenceTask({ before: first, after: second }, { progress() {}, throwIfAborted() {} });
  } finally {
    for (const fd of [first, second]) closeSync(fd);
  }
}
