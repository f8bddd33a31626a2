import { chmodSync, chownSync, linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { must } from '../../../scripts/lib/process.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { CopyDriver } from '../../../src/drivers/layers/copy/copy-driver.ts';
import { openCopyDriver } from '../../../src/drivers/layers/copy/open.ts';
import { FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { inNamespace, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';
import { isInUse, LayerRoot, stack } from '../../support/whole-layers.ts';
import { describeTree } from './reading.ts';

const mebibyte = 1024 * 1024;
const archiver = new WorkerArchiver(workerScript);

after(() => archiver.close());

for (const fileSystem of ['ext4', 'xfs', 'btrfs'] as const) {
  describe(`the layer driver copy on ${fileSystem}`, () => {
    let root: LayerRoot;
    let driver: CopyDriver;

    beforeEach(async () => {
      root = await LayerRoot.make(fileSystem, 320);
      driver = await openCopyDriver(root.path, archiver);
    });

    afterEach(() => root.close());

    it('a layer has everything of its parent, and does not change it', async () => {
      await root.add(driver, 1, []);
      expect((await stat(root.tree(1))).mode & 0o7777).to.equal(0o755);
      await fill(root.tree(1));
      await root.commit(driver, 1);
      const before = describeTree(root.tree(1), 'none.');
      await root.add(driver, 2, [1]);
      expect(describeTree(root.tree(2), 'none.')).to.deep.equal(before);
      writeFileSync(root.tree(2, 'file'), 'changed');
      chmodSync(root.tree(2, 'directory'), 0o700);
      expect(describeTree(root.tree(1), 'none.')).to.deep.equal(before);
    });

    it('counts what it holds otherwise than its parent', async () => {
      await root.add(driver, 1, []);
      writeFileSync(root.tree(1, 'one'), Buffer.alloc(mebibyte, 1));
      const { bytes, inodes } = await driver.usage(stack(1));
      expect(bytes).to.be.within(mebibyte, mebibyte + 16_384);
      expect(inodes).to.equal(2);
      await root.commit(driver, 1);
      await root.add(driver, 2, [1]);
      expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 0, inodes: 0 });
      writeFileSync(root.tree(2, 'two'), Buffer.alloc(2 * mebibyte, 1));
      expect((await driver.usage(stack(2, 1))).bytes).to.be.within(2 * mebibyte, 2 * mebibyte + 16_384);
    });

    it('a view is its parent, read-only, and costs nothing', async () => {
      await root.add(driver, 1, []);
      writeFileSync(root.tree(1, 'file'), 'x');
      await root.add(driver, 2, [1], { kind: 'view' });
      const source = root.tree(1);
      expect(await driver.mounts(stack(2, 1), 'view')).to.deep.equal([
        { type: 'bind', source, readonly: true },
      ]);
      expect(await driver.mounts(stack(1), 'active')).to.deep.equal([
        { type: 'bind', source, readonly: false },
      ]);
      const view = await driver.view(stack(2, 1));
      expect(await readdir(`/proc/self/fd/${view.fd}`)).to.deep.equal(['file']);
      await view.close();
      expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 0, inodes: 0 });
      expect(await rejection(driver.merge(stack(2, 1)))).to.be.instanceOf(FailedPrecondition);
      await root.remove(driver, 2);
      expect(readFileSync(root.tree(1, 'file'), 'utf8')).to.equal('x');
    });

    it('is frozen as a copy, and goes on in the same place', async () => {
      await root.add(driver, 1, []);
      await fill(root.tree(1));
      const before = describeTree(root.tree(1), 'none.');
      expect(await root.draft(2, draft => driver.freeze(stack(1), draft))).to.equal('frozen');
      writeFileSync(root.tree(1, 'file'), 'changed');
      expect(describeTree(root.tree(2), 'none.')).to.deep.equal(before);
      expect(await driver.merge(stack(1, 2))).to.equal(false);
      await root.remove(driver, 2);
      expect(readFileSync(root.tree(1, 'file'), 'utf8')).to.equal('changed');
    });

    it('is not frozen while somebody has it mounted, also when that begins during the copy', async () => {
      await root.add(driver, 1, []);
      const mountPoint = join(root.disk, 'mount');
      await mkdir(mountPoint);
      const mount = () => inNamespace('private', 'mount --bind "$1" "$2"', root.tree(1), mountPoint);
      const container = await mount();
      const draft = join(root.path, 'new-2');
      await mkdir(draft);
      const error = await rejection(driver.freeze(stack(1), draft));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain(mountPoint);
      expect(await readdir(draft)).to.deep.equal([]);
      expect(await isInUse(driver, stack(1)[0])).to.equal(true);
      await container.end();

      let late: Awaited<ReturnType<typeof mount>> | undefined;
      const copy = async () => {
        late = await mount();
      };
      const mountsMeanwhile = new Proxy(archiver, {
        get: (target, name) => (name === 'copy' ? copy : Reflect.get(target, name)),
      });
      const slow = new CopyDriver({ root: root.path, archiver: mountsMeanwhile });
      expect(await rejection(slow.freeze(stack(1), draft))).to.be.instanceOf(FailedPrecondition);
      await late?.end();
    });

    it('refuses a limit, with the way out', async () => {
      await mkdir(join(root.path, 'new-1'));
      const plan = { kind: 'active', limit: { bytes: mebibyte } } as const;
      const error = await rejection(driver.make(join(root.path, 'new-1'), null, plan));
      expect(error).to.be.instanceOf(Unimplemented);
      expect(error.message).to.contain('btrfs or overlay');
      expect(await readdir(join(root.path, 'new-1'))).to.deep.equal([]);
    });

    it('refuses a limit for a layer that is in use, with the way out', async () => {
      const error = await rejection(driver.limit());
      expect(error).to.be.instanceOf(Unimplemented);
      expect(error.message).to.match(/driver copy .*btrfs/);
    });

    it('deletes a layer and nothing that its links point to', async () => {
      const outside = join(root.disk, 'outside');
      await mkdir(outside);
      writeFileSync(join(outside, 'precious'), 'x');
      await root.add(driver, 1, []);
      await fill(root.tree(1));
      symlinkSync(outside, root.tree(1, 'way-out'));
      await root.remove(driver, 1);
      expect(await readdir(join(root.path, 'trash'))).to.deep.equal([]);
      expect(await readdir(root.path)).to.deep.equal(['trash']);
      expect(readFileSync(join(outside, 'precious'), 'utf8')).to.equal('x');
    });

    if (fileSystem !== 'ext4') {
      it('shares the data with its parent', async () => {
        await root.add(driver, 1, []);
        await must('dd', [
          'if=/dev/zero',
          `of=${root.tree(1, 'big')}`,
          'bs=1M',
          'count=32',
          'conv=fsync',
          'status=none',
        ]);
        const before = await usedBytes(root);
        await root.add(driver, 2, [1]);
        expect((await usedBytes(root)) - before).to.be.below(4 * mebibyte);
      });
    }
  });
}

describe('the layer driver copy', () => {
  it('is refused where not everything can be kept, with the reason, and leaves nothing there', async () => {
    const scratch = await Scratch.make();
    const root = await scratch.directory('disk');
    // A ramfs keeps no extended attributes.
    await must('mount', ['-t', 'ramfs', 'varve-test', root]);
    const error = await rejection(openCopyDriver(root, archiver));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.contain(root).and.to.contain('user.varve');
    expect(await readdir(root)).to.deep.equal([]);
    await must('umount', [root]);
    await scratch.remove();
  });

  it('leaves nothing of a trial that a crash cut off', async () => {
    const scratch = await Scratch.make();
    mkdirSync(join(scratch.path, 'new-probe/directory'), { recursive: true });
    await openCopyDriver(scratch.path, archiver);
    expect(await readdir(scratch.path)).to.deep.equal([]);
    await scratch.remove();
  });
});

/** One file of each kind. */
async function fill(tree: string): Promise<void> {
  writeFileSync(join(tree, 'file'), 'content');
  chownSync(join(tree, 'file'), 5, 70_000);
  chmodSync(join(tree, 'file'), 0o4751);
  await must('setfattr', ['-n', 'user.name', '-v', '0sAP8=', join(tree, 'file')]);
  await must('setfattr', ['-n', 'trusted.name', '-v', 'value', join(tree, 'file')]);
  linkSync(join(tree, 'file'), join(tree, 'hard-link'));
  symlinkSync('nowhere', join(tree, 'link'));
  mkdirSync(join(tree, 'directory'));
  chownSync(join(tree, 'directory'), 1, 2);
  await must('mknod', [join(tree, 'device'), 'c', '1', '3']);
  await must('mkfifo', [join(tree, 'fifo')]);
  chownSync(tree, 8, 9);
  chmodSync(tree, 0o1750);
}

async function usedBytes(root: LayerRoot): Promise<number> {
  await must('sync', ['-f', root.disk]);
  const { blocks, bfree, bsize } = await statfs(root.disk);
  return (blocks - bfree) * bsize;
}
