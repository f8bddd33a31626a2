import { closeSync, fsyncSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { mkdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { must, run } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { BtrfsDriver } from '../../../src/drivers/layers/btrfs/btrfs-driver.ts';
import { openBtrfsDriver } from '../../../src/drivers/layers/btrfs/open.ts';
import { Unimplemented } from '../../../src/errors/errors.ts';
import { btrfs } from '../../../src/host/linux/btrfs-ioctl.ts';
import { quotaState } from '../../../src/host/linux/btrfs-quota.ts';
import { rejection } from '../../support/rejection.ts';
import { LayerRoot, stack } from '../../support/whole-layers.ts';

const mebibyte = 1024 * 1024;
/** Node has no name for it. */
const EDQUOT = 122;
const limit = { bytes: 8 * mebibyte };

describe('a limit of the layer driver btrfs', () => {
  let root: LayerRoot;
  let driver: BtrfsDriver;

  beforeEach(async () => {
    root = await LayerRoot.make('btrfs', 512);
    driver = await openBtrfsDriver(root.path);
  });

  afterEach(() => root.close());

  it('turns on quotas at the first need, and not before', async () => {
    await root.add(driver, 1, []);
    expect(await state(root)).to.equal('off');
    await root.add(driver, 2, [1], { limit });
    expect(await state(root)).to.equal('on');
  });

  it('ends writes with EDQUOT, and counts nothing that the parent holds', async () => {
    await root.add(driver, 1, []);
    write(root.tree(1, 'big'), 16);
    await root.commit(driver, 1);
    await root.add(driver, 2, [1], { limit });
    write(root.tree(2, 'fits'), 7);
    expect(() => write(root.tree(2, 'more'), 2))
      .to.throw()
      .with.property('errno', -EDQUOT);
    await unlink(root.tree(2, 'fits'));
    await unlink(root.tree(2, 'more'));
    await must('sync', ['-f', root.disk]);
    write(root.tree(2, 'fits'), 7);
    await root.add(driver, 3, []);
    write(root.tree(3, 'unlimited'), 9);
  });

  it('holds from now on for a layer that is in use, in place of another one', async () => {
    await root.add(driver, 1, []);
    write(root.tree(1, 'big'), 16);
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    const file = openSync(root.tree(2, 'file'), 'w');
    const append = () => {
      for (let index = 0; index < 4; index += 1) writeSync(file, Buffer.alloc(mebibyte, 1));
      fsyncSync(file);
    };
    try {
      append();
      await driver.limit(stack(2, 1), limit);
      expect(() => [append(), append()])
        .to.throw()
        .with.property('errno', -EDQUOT);
      await driver.limit(stack(2, 1), { bytes: 16 * mebibyte });
      append();
    } finally {
      closeSync(file);
    }
    const inodes = rejection(driver.limit(stack(2, 1), { ...limit, inodes: 9 }));
    expect(await inodes).to.be.instanceOf(Unimplemented);
  });

  it('begins anew when the layer is frozen', async () => {
    await root.add(driver, 1, [], { limit });
    for (const next of [2, 3]) {
      write(root.tree(1, `file-${next}`), 7);
      expect(() => write(root.tree(1, 'more'), 2))
        .to.throw()
        .with.property('errno', -EDQUOT);
      await unlink(root.tree(1, 'more'));
      await root.draft(next, draft => driver.freeze(stack(1), draft));
    }
    write(root.tree(1, 'file'), 7);
  });

  it('is not that of layers over a committed or frozen one', async () => {
    await root.add(driver, 1, [], { limit });
    await root.draft(2, draft => driver.freeze(stack(1), draft));
    await driver.placed(stack(2), 'committed');
    await root.commit(driver, 1, 2);
    await root.add(driver, 3, [2]);
    await root.add(driver, 4, [1, 2]);
    for (const number of [3, 4]) write(root.tree(number, 'file'), 9);
  });

  it('leaves no quota group behind when the layer is deleted', async () => {
    for (const number of [1, 2]) {
      await root.add(driver, number, [], { limit });
      write(root.tree(number, 'file'), 1);
    }
    await must('btrfs', ['subvolume', 'create', root.tree(1, 'nested')]);
    expect(await groups(root)).to.have.length(4);
    // The kernel deletes subvolumes after its periodic commit, every 30 s otherwise.
    await must('mount', ['-o', 'remount,commit=1', root.disk]);
    await root.remove(driver, 1);
    await until('the groups to be gone', 60_000, async () => {
      await must('sync', ['-f', root.disk]);
      return (await groups(root)).length === 2;
    });
  });

  it('is refused for inodes, with the way out', async () => {
    const draft = join(root.path, 'new-1');
    await mkdir(draft);
    const plan = { kind: 'active', limit: { ...limit, inodes: 100 } } as const;
    const error = await rejection(driver.make(draft, null, plan));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.contain('driver overlay');
    expect(readdirSync(draft)).to.deep.equal([]);
  });

  it('is refused on a file system with simple quotas, and kept after these were turned off', async () => {
    await enableSimpleQuotas(root);
    const draft = join(root.path, 'new-1');
    await mkdir(draft);
    const error = await rejection(driver.make(draft, null, { kind: 'active', limit }));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.contain('simple quotas');
    await must('btrfs', ['quota', 'disable', root.disk]);
    await driver.make(draft, null, { kind: 'active', limit });
    expect(() => write(join(draft, 'fs/file'), 9))
      .to.throw()
      .with.property('errno', -EDQUOT);
  });

  it('counts everything anew when the counts are not right any more', async () => {
    await root.add(driver, 1, [], { limit });
    await makeStale(root);
    await root.add(driver, 2, [], { limit });
    expect(await state(root)).to.equal('on');
    expect(() => write(root.tree(2, 'file'), 9))
      .to.throw()
      .with.property('errno', -EDQUOT);
  });

  it('is on the disk with the layer', async () => {
    await root.add(driver, 1, []);
    await root.commit(driver, 1);
    await root.add(driver, 2, [1], { limit });
    const later = await root.afterPowerCut();
    try {
      const { stdout } = await must('btrfs', ['qgroup', 'show', '-e', '--raw', later.disk]);
      expect(stdout).to.match(new RegExp(` ${limit.bytes} .*(new-)?2/fs$`, 'm'));
    } finally {
      await later.close();
    }
  });
});

/** Writes zeros that reach the disk, as a program would that asks for it. */
function write(path: string, mebibytes: number): void {
  writeFileSync(path, '');
  const file = openSync(path, 'w');
  try {
    for (let index = 0; index < mebibytes; index += 1) writeSync(file, Buffer.alloc(mebibyte, 1));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

async function state(root: LayerRoot): Promise<string> {
  return await onDisk(root, quotaState);
}

async function onDisk<T>(root: LayerRoot, act: (fd: number) => Promise<T>): Promise<T> {
  const disk = openSync(root.disk, 'r');
  try {
    return await act(disk);
  } finally {
    closeSync(disk);
  }
}

/** btrfs-progs of Debian 12 cannot. */
async function enableSimpleQuotas(root: LayerRoot): Promise<void> {
  const [QUOTA_CTL, ENABLE_SIMPLE] = [0xc0109428, 4];
  const args = Buffer.alloc(16);
  args.writeUInt32LE(ENABLE_SIMPLE, 0);
  await onDisk(root, disk => btrfs(disk, QUOTA_CTL, args, 'enable simple quotas'));
}

/** A snapshot that is put into a group of its own makes the kernel give up counting. */
async function makeStale(root: LayerRoot): Promise<void> {
  await must('btrfs', ['qgroup', 'create', '1/1', root.disk]);
  await must('btrfs', ['subvolume', 'snapshot', '-i', '1/1', root.tree(1), join(root.disk, 'other')]);
  await must('sync', ['-f', root.disk]);
  expect(await state(root)).to.equal('stale');
}

async function groups(root: LayerRoot): Promise<readonly string[]> {
  const { stdout } = await run('btrfs', ['qgroup', 'show', root.disk]);
  return stdout.match(/^0\/\d+/gm) ?? [];
}
