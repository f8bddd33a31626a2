import { closeSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { OverlaySource } from '../../../src/core/mount.ts';
import { FailedPrecondition, NotFound } from '../../../src/errors/errors.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { openOverlayView, openOverlayViewAt } from '../../../src/host/linux/overlay.ts';
import { mountOverlayAt } from '../../../src/host/linux/overlay-calls.ts';
import { escapedPath } from '../../../src/host/linux/overlay-options.ts';
import { findOverlayUsers } from '../../../src/host/linux/overlay-users.ts';
import { inNamespace, must, Scratch } from '../../support/host-scratch.ts';
import { mountAsEngine } from '../../support/mount-as-engine.ts';
import { rejection } from '../../support/rejection.ts';

describe('overlays', () => {
  const mounter = new LinuxMounter();
  let scratch: Scratch;
  let target: string;

  beforeEach(async () => {
    scratch = await Scratch.make();
    target = await scratch.directory('mnt');
  });

  afterEach(() => scratch.remove());

  /** Directories of two layers, with a file in the lower one, and what mounts them. Their numbers are no other test's. */
  async function layersAt(name: string): Promise<{ readonly root: string; readonly source: OverlaySource }> {
    const root = await scratch.directory(name);
    for (const directory of ['7001/fs', '7002/fs', '7003/fs', '7003/work', 'l']) {
      await mkdir(join(root, directory), { recursive: true });
    }
    await must('ln', '-s', '../7001/fs', join(root, 'l/7001'));
    await must('ln', '-s', '../7002/fs', join(root, 'l/7002'));
    await writeFile(join(root, '7001/fs/file'), name);
    const path = escapedPath(root);
    const lowers = `lowerdir=${path}/l/7002:${path}/l/7001`;
    const upper = [`upperdir=${path}/7003/fs`, `workdir=${path}/7003/work`];
    return { root, source: { type: 'overlay', options: ['index=off', ...upper, lowers] } };
  }

  const names = (number: number) => [`${number}/fs`, `l/${number}`];
  const mountPointsOf = async (root: string, number: number) =>
    (await findOverlayUsers({ root, names: names(number) })).map(({ mountPoint }) => mountPoint);

  for (const how of ['fsopen(2)', 'mount(2)'] as const) {
    it(`are made by ${how} with any path, and known again`, async () => {
      const { root, source } = await layersAt('odd:a,b\\c d');
      if (how === 'mount(2)') await mountOverlayAt(source.options, target);
      else await mounter.mount({ ...source, target });
      expect(await readFile(join(target, 'file'), 'utf8')).to.equal('odd:a,b\\c d');
      await mounter.mount({ ...source, target });
      for (const number of [7001, 7002, 7003])
        expect(await mountPointsOf(root, number)).to.deep.equal([target]);
      expect(await mountPointsOf(root, 7004)).to.deep.equal([]);
    });
  }

  it('are made by mount(2) when a path is longer than fsconfig(2) takes', async () => {
    const { source } = await layersAt(`${'x'.repeat(120)}/${'y'.repeat(120)}`);
    await mounter.mount({ ...source, target });
    expect(await readdir(target)).to.deep.equal(['file']);
  });

  it('are refused by name when mount(2) would cut the options off', async () => {
    const options = ['index=off', `lowerdir=/${'x'.repeat(4100)}`];
    const error = await rejection(mountOverlayAt(options, target));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect(error.message).to.include('merge');
  });

  it('say which lower directory is missing', async () => {
    const options = [`lowerdir=${scratch.path}/nowhere:${scratch.path}`];
    const error = await rejection(mounter.mount({ type: 'overlay', options, target }));
    expect(error).to.be.instanceOf(NotFound);
    expect(error.message).to.include('nowhere');
  });

  it('repeat what the kernel says of a wrong option', async () => {
    const options = ['bogus=1', `lowerdir=${scratch.path}`];
    const error = await rejection(mounter.mount({ type: 'overlay', options, target }));
    expect(error.message).to.include("Unknown parameter 'bogus'");
  });

  it('are opened without being mounted, by both ways', async () => {
    const { root, source } = await layersAt('layers');
    const options = source.options.filter(option => !/^(upper|work)dir/.test(option));
    for (const open of [openOverlayView, openOverlayViewAt]) {
      const fd = await open(options, root);
      expect(await readdir(`/proc/self/fd/${fd}`)).to.deep.equal(['file']);
      expect(await mountPointsOf(root, 7001)).to.deep.equal([]);
      expect(await rejection(writeFile(`/proc/self/fd/${fd}/new`, ''))).to.have.property('code', 'EROFS');
      closeSync(fd);
    }
    expect((await readdir(root)).sort()).to.deep.equal(['7001', '7002', '7003', 'l']);
  });

  describe('users', () => {
    it('are found where the root has another path', async () => {
      const { root, source } = await layersAt('layers');
      const elsewhere = await scratch.directory('elsewhere');
      const options = source.options.join(',').replaceAll(root, elsewhere);
      const script = 'mount --bind "$1" "$2"; mount -i -t overlay overlay -o "$3" "$4"';
      const container = await inNamespace('private', script, root, elsewhere, options, target);
      try {
        const found = await findOverlayUsers({ root, names: names(7001) });
        expect(found).to.deep.equal([{ pid: container.pid, mountPoint: target }]);
      } finally {
        await container.end();
      }
      expect(await mountPointsOf(root, 7001)).to.deep.equal([]);
    });

    it('of one root are not taken for those of another', async () => {
      const { source } = await layersAt('layers');
      const { root: other } = await layersAt('other');
      await mounter.mount({ ...source, target });
      for (const number of [7001, 7002, 7003]) expect(await mountPointsOf(other, number)).to.deep.equal([]);
    });

    it('are found when the lower directories were named relative to their parent', async () => {
      const { root, source } = await layersAt('layers');
      const { root: other } = await layersAt('other');
      await mountAsEngine(source, join(root, 'l'), target, { short: true });
      expect(await mountPointsOf(root, 7001)).to.deep.equal([target]);
      expect(await mountPointsOf(other, 7001)).to.deep.equal([]);
    });

    it('may be those of a relative path whose place nobody can tell', async () => {
      const { root, source } = await layersAt('layers');
      const options = source.options.filter(option => !/^(upper|work)dir/.test(option));
      await mountAsEngine({ type: 'overlay', options }, join(root, 'l'), target, { short: true });
      expect(await mountPointsOf(root, 7002)).to.deep.equal([target]);
    });

    it('of one root are not taken for those of another where their paths lead nowhere, unless nobody can tell', async () => {
      const { root, source } = await layersAt('layers');
      const { root: other } = await layersAt('other');
      await mounter.mount({ ...source, target });
      const container = await inNamespace('private', 'mount -t tmpfs none "$1"', scratch.path);
      try {
        expect(await mountPointsOf(other, 7001)).to.deep.equal([]);
        expect(await mountPointsOf(root, 7001)).to.deep.equal([target, target]);
        await mounter.unmount(target);
        for (const each of [root, other]) expect(await mountPointsOf(each, 7001)).to.deep.equal([target]);
      } finally {
        await container.end();
      }
    });

    it('are none of what was unmounted and deleted while they were looked for', async () => {
      const { root } = await layersAt('layers');
      // Others before it in the table, so that it takes a while to come to it.
      const churn = `make() { mkdir -p "$1/7002/fs" "$1/7001/fs" "$1/mnt"
          mount -i -t overlay overlay -o "lowerdir=$1/7002/fs:$1/7001/fs" "$1/mnt"; }
        make "$1"; for time in $(seq 50); do mount --bind "$1/mnt" "$1/mnt"; done
        for time in $(seq 60); do make "$2"; umount "$2/mnt"; rm -r "$2"; done`;
      let isOver = false;
      const churning = inNamespace(
        'private',
        churn,
        join(scratch.path, 'one'),
        join(scratch.path, 'two'),
      ).finally(() => {
        isOver = true;
      });
      try {
        while (!isOver) expect(await mountPointsOf(root, 7001)).to.deep.equal([]);
      } finally {
        await (await churning).end();
      }
    });

    it('are found though the directory is in the trash', async () => {
      const { root, source } = await layersAt('layers');
      await mounter.mount({ ...source, target });
      await must('mv', join(root, '7001'), join(root, 'trash-1'));
      expect(await mountPointsOf(root, 7001)).to.deep.equal([target]);
    });
  });
});

describe('the layer driver overlay in a user namespace', () => {
  it('keeps what belongs to the union in attributes that anybody may set', async () => {
    const scratch = await Scratch.make();
    try {
      const script = fileURLToPath(new URL('../../support/open-overlay.ts', import.meta.url));
      const words = ['--user', '--map-root-user', '--mount', process.execPath, script, scratch.path];
      expect(await must('unshare', ...words)).to.equal('user.overlay. it works');
    } finally {
      await scratch.remove();
    }
  });
});
