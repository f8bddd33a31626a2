import { readFileSync } from 'node:fs';
import {
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../../../scripts/lib/wait.ts';
import type { LayerKind } from '../../../src/core/layers/layer-store.ts';
import { parseLayerNumber } from '../../../src/core/names.ts';
import type { Archiver } from '../../../src/drivers/layers/archive/archiver.ts';
import { copyTask } from '../../../src/drivers/layers/archive/copy.ts';
import { changesTask } from '../../../src/drivers/layers/archive/write.ts';
import { closing } from '../../../src/drivers/layers/comparison.ts';
import { openFuseOverlayfsDriver } from '../../../src/drivers/layers/fuse-overlayfs/open.ts';
import type { OverlayDriver } from '../../../src/drivers/layers/overlay/overlay-driver.ts';
import { FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { findFuseServers } from '../../../src/host/linux/fuse-servers.ts';
import { LinuxMounter } from '../../../src/host/linux/mounter.ts';
import { inNamespace, must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';
import { isInUse, LayerRoot, stack } from '../../support/whole-layers.ts';

const mebibyte = 1024 * 1024;
const context = { progress: () => {}, throwIfAborted: () => {} };

/** Does in this thread the little that the driver itself asks for. */
const archiver = {
  copy: async (from: { fd: number }, into: { fd: number }) =>
    copyTask({ from: from.fd, into: into.fd }, context),
} as unknown as Archiver;

describe('the layer driver fuse-overlayfs', () => {
  const mounter = new LinuxMounter();
  let root: LayerRoot;
  let scratch: Scratch;
  let driver: OverlayDriver;
  let target: string;
  const at = (name: string) => join(target, name);
  const servers = async () =>
    (await findFuseServers()).filter(server => server.options.some(option => option.includes(root.path)));
  const noServers = () => until('every process to end', 5_000, async () => (await servers()).length === 0);
  const mount = async (kind: LayerKind, first: number, ...below: readonly number[]) => {
    for (const source of await driver.mounts(stack(first, ...below), kind))
      await mounter.mount({ ...source, target });
  };
  const unmount = async () => {
    await mounter.unmount(target);
    await noServers();
  };
  /** Two layers: 1 holds `file`, `gone`, `tree/old`; 2 is writable on it. */
  const makeTwo = async (limit: { bytes: number } | null = null) => {
    await root.add(driver, 1, []);
    await mount('active', 1);
    for (const name of ['file', 'gone']) await writeFile(at(name), `${name} of 1`);
    await mkdir(at('tree'));
    await writeFile(at('tree/old'), '');
    await unmount();
    await root.commit(driver, 1);
    await root.add(driver, 2, [1], { limit });
  };
  const changeTwo = async () => {
    await writeFile(at('file'), 'file of 2');
    await rm(at('gone'));
    await rm(at('tree'), { recursive: true });
    await mkdir(at('tree'));
    await writeFile(at('tree/new'), '');
  };
  const expectNoOrigin = async (path: string) =>
    expect(await must('getfattr', '-m', '-', path)).not.to.include('origin');
  const seen = async (directory: string) => (await readdir(directory, { recursive: true })).sort();

  beforeEach(async () => {
    root = await LayerRoot.make('ext4', 512);
    scratch = await Scratch.make();
    target = await scratch.directory('mnt');
    driver = await openFuseOverlayfsDriver(root.path, archiver);
  });

  afterEach(async () => {
    await scratch.remove();
    await noServers();
    for (const name of await readdir(root.path)) {
      if (/^\d/.test(name)) await root.remove(driver, Number(name));
    }
    await root.close();
  });

  it('shows layers on layers: what was changed, deleted and replaced', async () => {
    await makeTwo();
    await mount('active', 2, 1);
    await changeTwo();
    await unmount();
    await root.commit(driver, 2, 1);
    await root.add(driver, 3, [2, 1]);
    await mount('active', 3, 2, 1);
    expect(await seen(target)).to.deep.equal(['file', 'tree', 'tree/new']);
    expect(await readFile(at('file'), 'utf8')).to.equal('file of 2');
    await unmount();
  });

  it('shows a view read-only', async () => {
    await makeTwo();
    await root.commit(driver, 2, 1);
    await root.add(driver, 3, [2, 1], { kind: 'view' });
    await mount('view', 3, 2, 1);
    expect(await seen(target)).to.deep.equal(['file', 'gone', 'tree', 'tree/old']);
    expect(await rejection(writeFile(at('new'), ''))).to.have.property('code', 'EROFS');
    await unmount();
  });

  it('opens what a container would see without a mount', async () => {
    await makeTwo();
    await writeFile(root.tree(2, 'new'), '');
    const view = await driver.view(stack(2, 1));
    expect(await seen(`/proc/self/fd/${view.fd}`)).to.deep.equal(['file', 'gone', 'new', 'tree', 'tree/old']);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.to.include('fuse-overlayfs');
    await view.close();
    await noServers();
  });

  it('lists what changed like an overlay of the kernel, without the files that the program keeps for itself', async () => {
    await makeTwo();
    await mount('active', 2, 1);
    await changeTwo();
    expect(await readdir(root.tree(2, 'tree'))).to.include('.wh..wh..opq');
    expect(await must('getfattr', '-m', '-', root.tree(2, 'file'))).to.include('origin');
    const tree = await driver.open(stack(2, 1));
    const changes = await closing([tree], async () => {
      const { fd: own, form, directory, below } = tree;
      const args = { own, form, directory, below: below?.fd ?? null };
      return changesTask({ comparison: { type: 'delta', tree: args } }, context);
    });
    // It goes on while it is mounted, without what was taken out of it.
    expect(await seen(root.tree(2))).to.deep.equal(['file', 'gone', 'tree', 'tree/new']);
    await expectNoOrigin(root.tree(2, 'file'));
    await mkdir(at('tree/again'));
    await rm(at('tree'), { recursive: true });
    await unmount();
    expect(changes.map(({ path, kind }) => `${kind} ${path}`)).to.deep.equal([
      'modified /file',
      'deleted /gone',
      'modified /tree',
      'added /tree/new',
      'deleted /tree/old',
    ]);
  });

  it('loses nothing when the process is killed: the layer is mounted again on the same target', async () => {
    await makeTwo();
    await mount('active', 2, 1);
    await changeTwo();
    for (const { pid } of await servers()) process.kill(pid, 'SIGKILL');
    await noServers();
    await mount('active', 2, 1);
    expect(await seen(target)).to.deep.equal(['file', 'tree', 'tree/new']);
    await writeFile(at('later'), '');
    await unmount();
  });

  it('ends writing over a limit with ENOSPC, and keeps what fits when it is committed', async () => {
    await makeTwo({ bytes: 16 * mebibyte });
    await mount('active', 2, 1);
    await writeFile(at('fits'), Buffer.alloc(8 * mebibyte, 1));
    const file = await open(at('over'), 'w');
    const filling = (async () => {
      for (;;) await file.write(Buffer.alloc(mebibyte, 1));
    })();
    expect(await rejection(filling)).to.have.property('code', 'ENOSPC');
    await file.close();
    await rm(at('over'));
    await unmount();
    await root.commit(driver, 2, 1);
    expect((await readdir(join(root.path, '2'))).sort()).to.deep.equal(['fs']);
    expect((await stat(root.tree(2, 'fits'))).size).to.equal(8 * mebibyte);
  });

  it('takes a layer for idle as soon as it was unmounted', async () => {
    await makeTwo();
    for (let time = 0; time < 10; time += 1) {
      await mount('active', 2, 1);
      expect(await isInUse(driver, parseLayerNumber(2))).to.equal(true);
      await mounter.unmount(target);
      expect(await isInUse(driver, parseLayerNumber(2))).to.equal(false);
    }
  });

  it('says that a layer is in use until the last mount of it is gone, in whatever namespace', async () => {
    await makeTwo();
    await mount('active', 2, 1);
    const container = await inNamespace('private', ':');
    try {
      await mounter.unmount(target);
      for (const number of [1, 2]) expect(await isInUse(driver, parseLayerNumber(number))).to.equal(true);
      expect(await rejection(driver.merge(stack(2, 1), scratch.path))).to.be.instanceOf(FailedPrecondition);
    } finally {
      await container.end();
    }
    await noServers();
    for (const number of [1, 2]) expect(await isInUse(driver, parseLayerNumber(number))).to.equal(false);
  });

  it('fills the holes of a file that it copies up, and keeps its bytes', async () => {
    await root.add(driver, 1, []);
    await writeFile(root.tree(1, 'sparse'), 'x');
    await truncate(root.tree(1, 'sparse'), 4 * mebibyte);
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    await mount('active', 2, 1);
    await writeFile(at('sparse'), 'y', { flag: 'r+' });
    await unmount();
    expect((await stat(root.tree(2, 'sparse'))).blocks * 512).to.be.above(4 * mebibyte - 1);
    expect((await readFile(root.tree(2, 'sparse'))).subarray(0, 2).toString()).to.equal('y\0');
  });

  it('cleans up after a crash while it tried out the place, or opened a view', async () => {
    for (const name of ['new-probe/mnt', 'new-view-1', 'lower'])
      await mkdir(join(root.path, name), { recursive: true });
    const options = [`lowerdir=${root.path}/lower`];
    for (const name of ['new-probe/mnt', 'new-view-1']) {
      await mounter.mount({ type: 'fuse-overlayfs', options, target: join(root.path, name) });
    }
    for (const { pid } of await servers()) process.kill(pid, 'SIGKILL');
    await openFuseOverlayfsDriver(root.path, archiver);
    await rmdir(join(root.path, 'lower'));
    expect((await readdir(root.path)).filter(name => name.startsWith('new-'))).to.deep.equal([]);
  });

  it('refuses a root with a colon in its path', async () => {
    await rename(root.path, `${root.path}:x`);
    const error = await rejection(openFuseOverlayfsDriver(`${root.path}:x`, archiver));
    await rename(`${root.path}:x`, root.path);
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('its path holds a colon');
  });

  it('refuses a host without the program, and names the package', async () => {
    const path = process.env.PATH;
    process.env.PATH = scratch.path;
    const error = await rejection(openFuseOverlayfsDriver(root.path, archiver)).finally(() => {
      process.env.PATH = path;
    });
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('install the package fuse-overlayfs');
    expect(await readdir(root.path)).not.to.include('new-probe');
  });

  it('refuses a place where it cannot keep trusted attributes or devices', async () => {
    const disk = await scratch.directory('fat');
    await must('mount', '-t', 'ramfs', 'varve-test', disk);
    const error = await rejection(openFuseOverlayfsDriver(disk, archiver));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.include('ext4, xfs or btrfs');
  });
});
