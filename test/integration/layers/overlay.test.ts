import {
  appendFile,
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { openOverlayDriver } from '../../../src/drivers/layers/overlay/open.ts';
import { FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { errorCode } from '../../../src/errors/from-errno.ts';
import { parseMountinfo, readMountinfo } from '../../../src/host/linux/mountinfo.ts';
import { inNamespace, must, Scratch } from '../../support/host-scratch.ts';
import { mountAsEngine } from '../../support/mount-as-engine.ts';
import { localArchiver, OverlayLayers } from '../../support/overlay-layers.ts';
import { rejection } from '../../support/rejection.ts';
import { isInUse, stack, untilUnused } from '../../support/whole-layers.ts';

for (const fileSystem of ['ext4', 'xfs', 'btrfs'] as const) {
  describe(`overlay driver on ${fileSystem}`, () => {
    let layers: OverlayLayers;

    beforeEach(async () => {
      layers = await OverlayLayers.make(fileSystem);
    });

    afterEach(() => layers.close());

    it('leaves nothing of its probe', async () => {
      expect(await readdir(layers.root.path)).to.have.members(['empty', 'trash']);
    });

    it('writes whiteouts and opaque directories as the kernel does', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'gone'), 'x');
        await mkdir(join(path, 'again'));
        await writeFile(join(path, 'again/hidden'), 'x');
      });
      await layers.layer(2, [1], async path => {
        await unlink(join(path, 'gone'));
        await rm(join(path, 'again'), { recursive: true });
        await mkdir(join(path, 'again'));
        await writeFile(join(path, 'again/new'), 'y');
      });
      const whiteout = await lstat(layers.root.tree(2, 'gone'));
      expect([whiteout.isCharacterDevice(), whiteout.rdev]).to.deep.equal([true, 0]);
      const words = ['--only-values', '-n', 'trusted.overlay.opaque', layers.root.tree(2, 'again')];
      expect(await must('getfattr', '--absolute-names', ...words)).to.equal('y');
      expect(await layers.show(2, 1)).to.deep.equal({ 'again/': '', 'again/new': 'y' });
      expect(await layers.show(1)).to.deep.equal({ 'again/': '', 'again/hidden': 'x', gone: 'x' });
    });

    it('gives a new layer the owner, mode and attributes of the top beneath', async () => {
      await layers.layer(1, [], async path => {
        await chown(path, 12, 34);
        await chmod(path, 0o2750);
        await must('setfattr', '-n', 'user.color', '-v', 'green', path);
      });
      await layers.root.add(layers.driver, 2, [1]);
      const target = await layers.mount('active', 2, 1);
      const { uid, gid, mode } = await stat(target);
      expect([uid, gid, mode & 0o7777]).to.deep.equal([12, 34, 0o2750]);
      expect(await must('getfattr', '--absolute-names', '-d', target)).to.include('user.color="green"');
    });

    it('shows a view over several layers read-only, and nothing of it in the mount table', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'one'), '1'));
      await layers.layer(2, [1], path => writeFile(join(path, 'two'), '2'));
      await layers.root.add(layers.driver, 3, [2, 1], { kind: 'view' });
      const before = readMountinfo('self');
      const view = await layers.driver.view(stack(3, 2, 1));
      try {
        expect(readMountinfo('self')).to.equal(before);
        expect(await readFile(`/proc/self/fd/${view.fd}/two`, 'utf8')).to.equal('2');
        const error = await rejection(writeFile(`/proc/self/fd/${view.fd}/three`, 'x'));
        expect(errorCode(error)).to.equal('EROFS');
      } finally {
        await view.close();
      }
      const target = await layers.mount('view', 3, 2, 1);
      expect(errorCode(await rejection(writeFile(join(target, 'three'), 'x')))).to.equal('EROFS');
    });

    it('copies a file up when it is written to, and a hard link beneath parts with it', async () => {
      await layers.layer(1, [], async path => {
        await writeFile(join(path, 'a'), 'old');
        await link(join(path, 'a'), join(path, 'b'));
      });
      await layers.layer(2, [1], path => appendFile(join(path, 'a'), ' and new'));
      expect(await layers.show(2, 1)).to.deep.equal({ a: 'old and new', b: 'old' });
    });

    it('refuses to rename a directory from beneath (EXDEV), since its delta must say everything', async () => {
      await layers.layer(1, [], path => mkdir(join(path, 'directory')));
      await layers.root.add(layers.driver, 2, [1]);
      const target = await layers.mount('active', 2, 1);
      const error = await rejection(rename(join(target, 'directory'), join(target, 'other')));
      expect(errorCode(error)).to.equal('EXDEV');
    });

    it('says what a layer takes by itself', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'big'), Buffer.alloc(1024 * 1024, 1)));
      await layers.layer(2, [1], path => writeFile(join(path, 'small'), 'x'));
      const [lower, upper] = [await layers.driver.usage(stack(1)), await layers.driver.usage(stack(2, 1))];
      expect(lower.bytes).to.be.within(1024 * 1024, 1024 * 1024 + 65536);
      expect(upper.bytes).to.be.below(65536);
      expect([lower.inodes, upper.inodes]).to.deep.equal([2, 2]);
    });

    it('has no work directory left once a layer is committed', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), 'x'));
      await layers.layer(2, [1], path => writeFile(join(path, 'a'), 'y'));
      expect(await readdir(join(layers.root.path, '2'))).to.deep.equal(['fs']);
    });

    it('stays writable when it was sealed, and the commit never came', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), 'x'));
      await layers.root.add(layers.driver, 2, [1]);
      await layers.driver.seal(stack(2, 1));
      await layers.driver.placed(stack(2, 1), 'active');
      await layers.change(path => writeFile(join(path, 'b'), 'y'), 2, 1);
      expect(await layers.show(2, 1)).to.deep.equal({ a: 'x', b: 'y' });
    });

    it('freezes a layer that nobody has mounted, and goes on over it', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
      await layers.root.add(layers.driver, 2, [1]);
      await layers.change(path => writeFile(join(path, 'b'), '2'), 2, 1);
      const freeze = () => layers.root.draft(3, draft => layers.driver.freeze(stack(2, 1), draft, null));
      expect(await freeze()).to.equal('writable');
      await layers.driver.placed(stack(2, 1), 'committed');
      await layers.driver.placed(stack(3, 2, 1), 'active');
      await layers.change(path => writeFile(join(path, 'c'), '3'), 3, 2, 1);
      expect(await layers.show(2, 1)).to.deep.equal({ a: '1', b: '2' });
      expect(await layers.show(3, 2, 1)).to.deep.equal({ a: '1', b: '2', c: '3' });
    });

    it('refuses to freeze a layer that another mount namespace has mounted, alone or in a union', async () => {
      await layers.root.add(layers.driver, 1, []);
      const bound = await layers.mount('active', 1);
      const holder = await inNamespace('private', ':');
      await layers.unmount(bound);
      const draft = join(layers.root.path, 'new-9');
      await mkdir(draft);
      const refused = await rejection(layers.driver.freeze(stack(1), draft, null));
      expect(refused).to.be.instanceOf(FailedPrecondition);
      expect(refused.message).to.match(/process \d+/);
      await holder.end();
      await layers.driver.freeze(stack(1), draft, null);
      await layers.driver.delete(draft);
      await layers.driver.placed(stack(1), 'committed');

      await layers.root.add(layers.driver, 2, [1]);
      const union = await layers.mount('active', 2, 1);
      const other = await inNamespace('private', ':');
      await layers.unmount(union);
      await mkdir(draft);
      const again = await rejection(layers.driver.freeze(stack(2, 1), draft, null));
      expect(again).to.be.instanceOf(FailedPrecondition);
      expect(again.message).to.match(/process \d+/);
      expect(await isInUse(layers.driver, stack(1)[0])).to.equal(true);
      await other.end();
      await untilUnused(layers.driver, stack(1)[0]);
    });

    it('says that a removed layer is in use as long as a mount shows it', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
      await layers.layer(2, [1], path => writeFile(join(path, 'b'), '2'));
      const target = await layers.mount('committed', 2, 1);
      const alone = await layers.mount('committed', 1);
      await rename(join(layers.root.path, '2'), join(layers.root.path, 'trash/2'));
      await rename(join(layers.root.path, '1'), join(layers.root.path, 'trash/1'));
      const inUse = async () => [
        await isInUse(layers.driver, stack(1)[0]),
        await isInUse(layers.driver, stack(2)[0]),
      ];
      expect(await inUse()).to.deep.equal([true, true]);
      expect(await readFile(join(target, 'a'), 'utf8')).to.equal('1');
      await layers.unmount(target);
      await untilUnused(layers.driver, stack(2)[0]);
      expect(await inUse()).to.deep.equal([true, false]);
      await layers.unmount(alone);
      await untilUnused(layers.driver, stack(1)[0]);
      for (const name of ['1', '2']) await layers.driver.delete(join(layers.root.path, 'trash', name));
      expect(await readdir(join(layers.root.path, 'l'))).to.deep.equal([]);
    });

    it('keeps a limit: 25 of 50 MiB fit, 50 more do not', async () => {
      const mebibyte = 1024 * 1024;
      await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
      await layers.root.add(layers.driver, 2, [1], { limit: { bytes: 50 * mebibyte } });
      const target = await layers.mount('active', 2, 1);
      await writeFile(join(target, 'fits'), Buffer.alloc(25 * mebibyte, 1));
      const error = await rejection(writeFile(join(target, 'too-much'), Buffer.alloc(50 * mebibyte, 1)));
      expect(['ENOSPC', 'EDQUOT']).to.include(errorCode(error));
      await rm(join(target, 'too-much'));
      await unlink(join(target, 'a'));
      await layers.unmount(target);
      await layers.root.commit(layers.driver, 2, 1);
      expect(await readdir(join(layers.root.path, '2'))).to.deep.equal(['fs']);
      expect(Object.keys(await layers.show(2, 1))).to.deep.equal(['fits']);
    });

    it('keeps what is in the image until the commit is recorded, and freezes into a new image', async () => {
      const limit = { bytes: 16 * 1024 * 1024 };
      await layers.root.add(layers.driver, 1, [], { limit });
      await layers.change(path => writeFile(join(path, 'a'), '1'), 1);
      await layers.driver.seal(stack(1));
      await layers.change(path => writeFile(join(path, 'b'), '2'), 1);
      await layers.root.draft(2, draft => layers.driver.freeze(stack(1), draft, limit));
      await layers.driver.placed(stack(1), 'committed');
      await layers.driver.placed(stack(2, 1), 'active');
      expect(await layers.show(2, 1)).to.deep.equal({ a: '1', b: '2' });
      const target = await layers.mount('active', 2, 1);
      const error = await rejection(writeFile(join(target, 'c'), Buffer.alloc(20 * 1024 * 1024, 1)));
      expect(errorCode(error)).to.equal('ENOSPC');
    });

    it('gives up the image of a committed layer while somebody still reads a file in it', async () => {
      await layers.root.add(layers.driver, 1, [], { limit: { bytes: 16 * 1024 * 1024 } });
      await layers.change(path => writeFile(join(path, 'a'), '1'), 1);
      await layers.driver.seal(stack(1));
      const tree = await layers.driver.open(stack(1));
      await layers.driver.placed(stack(1), 'committed');
      expect(await readFile(`/proc/self/fd/${tree.fd}/a`, 'utf8')).to.equal('1');
      await tree.close();
      expect(await readdir(join(layers.root.path, '1'))).to.deep.equal(['fs']);
      expect(await layers.show(1)).to.deep.equal({ a: '1' });
    });

    it('knows which layers need nothing at a start', async () => {
      const arePlaced = async () => [
        await layers.driver.isPlaced(stack(1), 'committed'),
        await layers.driver.isPlaced(stack(2, 1), 'active'),
        await layers.driver.isPlaced(stack(3, 1), 'active'),
      ];
      await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
      await layers.root.add(layers.driver, 2, [1]);
      await layers.root.add(layers.driver, 3, [1], { limit: { bytes: 16 * 1024 * 1024 } });
      expect(await arePlaced()).to.deep.equal([true, true, false]);
      await mkdir(join(layers.root.path, '1/work'));
      await unlink(join(layers.root.path, 'l/2'));
      expect(await arePlaced()).to.deep.equal([false, false, false]);
    });

    for (const [verb, limit] of [
      ['merge', null],
      ['commit', { bytes: 16 * 1024 * 1024 }],
    ] as const) {
      it(`refuses to ${verb} a layer that is mounted while its files are read`, async () => {
        await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
        await layers.layer(2, [1], path => writeFile(join(path, 'b'), '2'));
        await layers.root.add(layers.driver, 3, [2, 1], { limit });
        const meanwhile = async () => void (await layers.mount('active', 3, 2, 1));
        const archiver = {
          ...localArchiver,
          merge: meanwhile,
          copy: meanwhile,
        };
        const driver = await openOverlayDriver(layers.root.path, archiver);
        const act =
          verb === 'merge'
            ? layers.root.draft(9, draft => driver.merge(stack(3, 2, 1), draft))
            : driver.seal(stack(3, 2, 1));
        const error = await rejection(act);
        expect(error).to.be.instanceOf(FailedPrecondition);
        expect(error.message).to.include(`cannot ${verb} layer 3: process ${process.pid} has it mounted`);
      });
    }

    it('makes the first layer one that everybody can enter, whatever the umask', async () => {
      const umask = process.umask(0o077);
      try {
        await layers.root.add(layers.driver, 1, []);
        await layers.root.add(layers.driver, 2, [], { limit: { bytes: 16 * 1024 * 1024 } });
      } finally {
        process.umask(umask);
      }
      for (const path of ['1/fs', '2/upper/fs']) {
        expect((await stat(join(layers.root.path, path))).mode & 0o777, path).to.equal(0o755);
      }
    });

    it('attaches the image of a limited layer again after a restart of the host', async () => {
      await layers.root.add(layers.driver, 1, [], { limit: { bytes: 16 * 1024 * 1024 } });
      await layers.change(path => writeFile(join(path, 'a'), '1'), 1);
      await must('umount', join(layers.root.path, '1/upper'));
      await layers.driver.placed(stack(1), 'active');
      expect(await layers.show(1)).to.deep.equal({ a: '1' });
    });

    it('refuses a limit for a layer that is in use, with the way out', async () => {
      const error = await rejection(layers.driver.limit());
      expect(error).to.be.instanceOf(Unimplemented);
      expect(error.message).to.match(/driver overlay .*`snapshotters.NAME.limit`/);
    });

    it('refuses to merge into a view, and into a layer with a limit', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'a'), '1'));
      await layers.root.add(layers.driver, 2, [1], { kind: 'view' });
      await layers.root.add(layers.driver, 3, [1], { limit: { bytes: 16 * 1024 * 1024 } });
      for (const number of [2, 3]) {
        const error = await rejection(layers.driver.merge(stack(number, 1), join(layers.root.path, 'new-9')));
        expect(error).to.be.instanceOf(FailedPrecondition);
      }
    });

    it('mounts 500 layers, and refuses the next one', async () => {
      await layers.layer(1, [], path => writeFile(join(path, 'bottom'), 'x'));
      const numbers = [1];
      for (let number = 2; number <= 500; number += 1) {
        await layers.root.draft(number, draft =>
          layers.driver.make(draft, stack(number - 1), { kind: 'active', limit: null }),
        );
        await writeFile(layers.root.tree(number, `file-${number % 10}`), String(number));
        await layers.root.commit(layers.driver, number, ...numbers);
        numbers.unshift(number);
      }
      await layers.root.add(layers.driver, 501, numbers);
      const target = await layers.mount('active', 501, ...numbers);
      expect(await readFile(join(target, 'bottom'), 'utf8')).to.equal('x');
      expect(await readFile(join(target, 'file-0'), 'utf8')).to.equal('500');
      await unlink(join(target, 'bottom'));
      expect(await isInUse(layers.driver, stack(1)[0])).to.equal(true);
      const shown = parseMountinfo(readMountinfo('self')).find(entry => entry.mountPoint === target);
      expect(shown?.superOptions.filter(option => option.startsWith('lowerdir+='))).to.have.length(500);
      const [mount] = await layers.driver.mounts(stack(501, ...numbers), 'active');
      if (mount?.type !== 'overlay') throw new Error('this is no overlay');
      await layers.mounter.mount({ ...mount, target });

      await layers.unmount(target);
      await mountAsEngine(mount, join(layers.root.path, 'l'), target);
      expect(await readFile(join(target, 'file-0'), 'utf8')).to.equal('500');
      expect(await isInUse(layers.driver, stack(1)[0])).to.equal(true);
      expect(await isInUse(layers.driver, stack(7)[0])).to.equal(true);
      await layers.mounter.unmount(target);
      await untilUnused(layers.driver, stack(1)[0]);

      const tooMany = await rejection(layers.driver.mounts(stack(502, 501, ...numbers), 'active'));
      expect(tooMany).to.be.instanceOf(FailedPrecondition);
    });
  });
}

describe('opening the overlay driver', () => {
  let scratch: Scratch;

  beforeEach(async () => {
    scratch = await Scratch.make();
  });

  afterEach(() => scratch.remove());

  it('is refused on a file system that cannot be above another, with the reason', async () => {
    const [lower, upper, work, union] = await Promise.all(
      ['lower', 'upper', 'work', 'union'].map(name => scratch.directory(name)),
    );
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    await must('mount', '-t', 'overlay', 'overlay', '-o', options, `${union}`);
    const error = await rejection(openOverlayDriver(`${union}`, localArchiver));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('not supported as upperdir');
    expect(await readdir(`${union}`)).to.deep.equal([]);
  });

  it('takes away what a crash left while a view was mounted for a moment', async () => {
    const left = await scratch.directory('new-view-abcdef');
    await must('mount', '-t', 'tmpfs', 'varve-test', left);
    await openOverlayDriver(scratch.path, localArchiver);
    expect(await readdir(scratch.path)).to.deep.equal(['empty']);
    expect(readMountinfo('self')).not.to.include(left);
  });
});
