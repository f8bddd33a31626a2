import {
  appendFile,
  chmod,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { FailedPrecondition } from '../../../src/errors/errors.ts';
import { must } from '../../support/host-scratch.ts';
import { OverlayLayers } from '../../support/overlay-layers.ts';
import { rejection } from '../../support/rejection.ts';
import { stack } from '../../support/whole-layers.ts';

for (const fileSystem of ['ext4', 'xfs', 'btrfs'] as const) {
  describe(`overlay driver for volumes on ${fileSystem}`, () => {
    let layers: OverlayLayers;

    beforeEach(async () => {
      layers = await OverlayLayers.make(fileSystem, 'volumes');
    });

    afterEach(() => layers.close());

    /** Freezes the first of a stack: `next` goes on over it. */
    async function freeze(next: number, number: number, ...below: readonly number[]): Promise<void> {
      await layers.root.draft(next, draft => layers.driver.freeze(stack(number, ...below), draft, null));
      await layers.driver.placed(stack(number, ...below), 'committed');
      await layers.driver.placed(stack(next, number, ...below), 'active');
    }

    /** Folds the second of a stack into the first, which then is `next`. */
    async function merge(next: number, ...numbers: readonly [number, number, ...number[]]): Promise<void> {
      const [upper, lower, ...below] = numbers;
      await layers.root.draft(next, draft => layers.driver.merge(stack(upper, lower, ...below), draft));
      for (const number of [upper, lower]) await layers.root.remove(layers.driver, number);
    }

    it('keeps hard links together when one name is written to', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'a'), 'old');
        await link(join(path, 'a'), join(path, 'b'));
      });
      await layers.root.add(layers.driver, 2, [1]);
      const target = await layers.mount('active', 2, 1);
      await appendFile(join(target, 'a'), ' and new');
      expect(await readFile(join(target, 'b'), 'utf8')).to.equal('old and new');
    });

    it('freezes a file with several names as one, though only one was written to', async () => {
      await layers.layer(1, [], async path => {
        await mkdir(join(path, 'sub/deep'), { recursive: true });
        await writeFile(join(path, 'a'), 'old');
        await link(join(path, 'a'), join(path, 'sub/deep/b'));
        await link(join(path, 'a'), join(path, 'sub/c'));
        await writeFile(join(path, 'other'), 'left');
        await link(join(path, 'other'), join(path, 'left alone'));
        await chmod(join(path, 'a'), 0o4755);
        await utimes(join(path, 'a'), 1000, 2000);
      });
      await layers.root.add(layers.driver, 2, [1]);
      await layers.change(
        async path => {
          await appendFile(join(path, 'a'), ' and new');
          await utimes(join(path, 'a'), 1000, 2000.25);
          await chmod(join(path, 'a'), 0o4755);
        },
        2,
        1,
      );
      await freeze(3, 2, 1);
      const expected = { 'left alone': 'left', 'sub/': '', 'sub/deep/': '', other: 'left' };
      const files = { a: 'old and new', 'sub/deep/b': 'old and new', 'sub/c': 'old and new' };
      expect(await layers.show(2, 1)).to.deep.equal({ ...expected, ...files });
      expect(await layers.show(3, 2, 1)).to.deep.equal({ ...expected, ...files });
      const status = await stat(layers.root.tree(2, 'sub/c'));
      expect([status.mtimeMs, status.mode & 0o7777]).to.deep.equal([2000250, 0o4755]);
      expect(await readdir(layers.root.tree(2))).to.have.members(['a', 'sub']);
    });

    it('freezes the new content under a name that was not written to, when the one that was is gone', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'a'), 'old');
        for (const name of ['b', 'c']) await link(join(path, 'a'), join(path, name));
      });
      await layers.root.add(layers.driver, 2, [1]);
      await layers.change(
        async path => {
          await appendFile(join(path, 'a'), ' and new');
          await unlink(join(path, 'a'));
        },
        2,
        1,
      );
      await freeze(3, 2, 1);
      expect(await layers.show(3, 2, 1)).to.deep.equal({ b: 'old and new', c: 'old and new' });
    });

    it('shows all names of a file alike before a freeze, too, and refuses while somebody could write', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'a'), 'old');
        await link(join(path, 'a'), join(path, 'b'));
      });
      await layers.root.add(layers.driver, 2, [1]);
      const target = await layers.mount('active', 2, 1);
      await writeFile(join(target, 'a'), 'new');
      expect(await rejection(layers.driver.view(stack(2, 1)))).to.be.instanceOf(FailedPrecondition);
      await layers.unmount(target);
      expect(await layers.show(2, 1)).to.deep.equal({ a: 'new', b: 'new' });
    });

    it('renames directories from beneath, and a frozen layer shows them renamed', async () => {
      await layers.layer(1, [], async path => {
        await mkdir(join(path, 'a/b'), { recursive: true });
        await writeFile(join(path, 'a/b/file'), 'x');
      });
      await layers.root.add(layers.driver, 2, [1]);
      await layers.change(path => rename(join(path, 'a/b'), join(path, 'c')), 2, 1);
      await freeze(3, 2, 1);
      expect(await layers.show(3, 2, 1)).to.deep.equal({ 'a/': '', 'c/': '', 'c/file': 'x' });
    });

    it('lets the kernel refuse to mount an upper directory twice', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), 'x'));
      await layers.root.add(layers.driver, 2, [1]);
      await layers.mount('active', 2, 1);
      const error = await rejection(layers.mount('active', 2, 1));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.include('EBUSY');
    });

    it('mounts a layer again whose parent was merged, its index still right', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'a'), 'one');
        await link(join(path, 'a'), join(path, 'b'));
      });
      await layers.layer(2, [1], path => writeFile(join(path, 'two'), 'two'));
      await layers.root.add(layers.driver, 3, [2, 1]);
      await layers.change(path => appendFile(join(path, 'a'), ' more'), 3, 2, 1);
      await merge(4, 2, 1);
      await layers.driver.placed(stack(4), 'committed');
      const target = await layers.mount('active', 3, 4);
      expect(await readFile(join(target, 'b'), 'utf8')).to.equal('one more');
      await layers.unmount(target);
      await freeze(5, 3, 4);
      const all = { a: 'one more', b: 'one more', two: 'two' };
      expect(await layers.show(5, 3, 4)).to.deep.equal(all);
    });

    it('merges into an active layer that nobody has mounted, which stays writable', async () => {
      await layers.layer(1, [], path => mkdir(join(path, 'a')));
      await layers.layer(2, [1], async path => {
        await writeFile(join(path, 'a/file'), 'x');
        await link(join(path, 'a/file'), join(path, 'a/other'));
      });
      await layers.root.add(layers.driver, 3, [2, 1]);
      const target = await layers.mount('active', 3, 2, 1);
      await rename(join(target, 'a'), join(target, 'b'));
      await appendFile(join(target, 'b/file'), 'y');
      const draft = join(layers.root.path, 'new-4');
      await mkdir(draft);
      expect(await rejection(layers.driver.merge(stack(3, 2, 1), draft))).to.be.instanceOf(
        FailedPrecondition,
      );
      await rm(draft, { recursive: true });
      await layers.unmount(target);
      await merge(4, 3, 2, 1);
      await layers.driver.placed(stack(4, 1), 'active');
      await layers.change(path => writeFile(join(path, 'b/more'), 'z'), 4, 1);
      const expected = { 'b/': '', 'b/file': 'xy', 'b/more': 'z', 'b/other': 'xy' };
      expect(await layers.show(4, 1)).to.deep.equal(expected);
    });
  });
}

describe('a view on a kernel that takes no lower directories one by one', () => {
  it('is opened by mount(2), and leaves no mount and no directory', async () => {
    const { openOverlayViewAt } = await import('../../../src/host/linux/overlay.ts');
    const { overlayViewOptions } = await import('../../../src/core/layers/overlay-mounts.ts');
    const layers = await OverlayLayers.make('ext4');
    try {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), 'x'));
      await layers.layer(2, [1], path => unlink(join(path, 'a')));
      const plan = { use: 'images', userxattr: false } as const;
      const options = overlayViewOptions([layers.root.tree(2), layers.root.tree(1)], plan);
      const fd = await openOverlayViewAt(options, layers.root.path);
      expect(await must('cat', '/proc/self/mountinfo')).not.to.include('new-view-');
      expect(await readdir(`/proc/self/fd/${fd}`)).to.deep.equal([]);
      const { closeSync } = await import('node:fs');
      closeSync(fd);
      expect((await readdir(layers.root.path)).filter(name => name.startsWith('new-'))).to.deep.equal([]);
    } finally {
      await layers.close();
    }
  });
});
