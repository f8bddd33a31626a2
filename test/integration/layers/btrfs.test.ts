import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { must, run } from '../../../scripts/lib/process.ts';
import { until } from '../../../scripts/lib/wait.ts';
import type { BtrfsDriver } from '../../../src/drivers/layers/btrfs/btrfs-driver.ts';
import { openBtrfsDriver } from '../../../src/drivers/layers/btrfs/open.ts';
import { FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { inNamespace, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';
import { isInUse, LayerRoot, stack } from '../../support/whole-layers.ts';

const mebibyte = 1024 * 1024;

describe('the layer driver btrfs', () => {
  let root: LayerRoot;
  let driver: BtrfsDriver;

  beforeEach(async () => {
    root = await LayerRoot.make('btrfs', 2048);
    driver = await openBtrfsDriver(root.path);
  });

  afterEach(() => root.close());

  it('is refused where there is no btrfs, with the reason, and leaves nothing there', async () => {
    const scratch = await Scratch.make();
    const error = await rejection(openBtrfsDriver(scratch.path));
    expect(error).to.be.instanceOf(Unimplemented);
    expect(error.message).to.contain(scratch.path).and.to.contain('btrfs file system');
    expect(await readdir(scratch.path)).to.deep.equal([]);
    await scratch.remove();
  });

  it('leaves nothing of its trial, nor of one that a crash cut off', async () => {
    await mkdir(join(root.path, 'new-probe'));
    await must('btrfs', ['subvolume', 'create', join(root.path, 'new-probe/fs')]);
    await openBtrfsDriver(root.path);
    expect(await readdir(root.path)).to.deep.equal(['trash']);
    expect(await subvolumes(root)).to.deep.equal([]);
  });

  it('shows what is beneath, keeps the attributes of the top, and changes nothing beneath', async () => {
    await root.add(driver, 1, []);
    expect((await stat(root.tree(1))).mode & 0o7777).to.equal(0o755);
    writeFileSync(root.tree(1, 'file'), 'one');
    chownSync(root.tree(1), 3, 4);
    await chmod(root.tree(1), 0o1771);
    await root.commit(driver, 1);
    await root.add(driver, 2, [1]);
    const { uid, gid, mode } = await stat(root.tree(2));
    expect([uid, gid, mode & 0o7777]).to.deep.equal([3, 4, 0o1771]);
    writeFileSync(root.tree(2, 'file'), 'two');
    expect(readFileSync(root.tree(1, 'file'), 'utf8')).to.equal('one');
  });

  it('a layer can be written to after it was sealed, and by nobody after its commit', async () => {
    await root.add(driver, 1, []);
    await driver.seal(stack(1));
    writeFileSync(root.tree(1, 'file'), 'x');
    for (const _ of [1, 2]) await root.commit(driver, 1);
    expect(() => writeFileSync(root.tree(1, 'file'), 'y')).to.throw(/EROFS/);
  });

  it('a view has nothing of its own; it shows its parent, read-only, or an empty directory', async () => {
    await root.add(driver, 1, []);
    writeFileSync(root.tree(1, 'file'), 'x');
    await root.commit(driver, 1);
    await root.add(driver, 2, [1], { kind: 'view' });
    await root.add(driver, 3, [], { kind: 'view' });
    const binds = [await driver.mounts(stack(2, 1), 'view'), await driver.mounts(stack(3), 'view')];
    expect(binds.flat()).to.deep.equal([
      { type: 'bind', source: root.tree(1), readonly: true },
      { type: 'bind', source: root.tree(3), readonly: true },
    ]);
    for (const open of [await driver.view(stack(2, 1)), await driver.open(stack(2, 1))]) {
      expect(await readdir(`/proc/self/fd/${open.fd}`)).to.deep.equal(['file']);
      await open.close();
    }
    expect(await readdir(root.tree(3))).to.deep.equal([]);
    expect(await driver.usage(stack(2, 1))).to.deep.equal({ bytes: 0, inodes: 0 });
    expect(await rejection(driver.merge(stack(2, 1)))).to.be.instanceOf(FailedPrecondition);
    await root.remove(driver, 2);
    expect(readFileSync(root.tree(1, 'file'), 'utf8')).to.equal('x');
  });

  it('a layer is deleted with the subvolumes that were made in it, and nothing that its links point to', async () => {
    await root.add(driver, 1, []);
    await must('btrfs', ['subvolume', 'create', join(root.disk, 'outside')]);
    writeFileSync(join(root.disk, 'outside/precious'), 'x');
    symlinkSync(join(root.disk, 'outside'), root.tree(1, 'link'));
    mkdirSync(root.tree(1, 'deep/down'), { recursive: true });
    for (const path of ['deep/down/a', 'deep/down/a/b', 'deep/down/a/b/c', 'd']) {
      await must('btrfs', ['subvolume', 'create', root.tree(1, path)]);
      writeFileSync(root.tree(1, path, 'file'), 'x');
    }
    await must('btrfs', ['property', 'set', root.tree(1, 'deep/down/a/b/c'), 'ro', 'true']);
    await root.add(driver, 2, [1]);
    await root.remove(driver, 1);
    expect(await subvolumes(root)).to.deep.equal(['layers/2/fs', 'outside']);
    expect(readFileSync(join(root.disk, 'outside/precious'), 'utf8')).to.equal('x');
    expect(await readdir(join(root.path, 'trash'))).to.deep.equal([]);
  });

  it('deletes a draft that a crash cut off, and what is not there', async () => {
    const draft = join(root.path, 'new-1');
    for (const fill of [async () => {}, () => driver.make(draft, null, { kind: 'active', limit: null })]) {
      await mkdir(draft);
      await fill();
      await driver.delete(draft);
      await driver.delete(draft);
    }
    expect(await readdir(root.path)).to.deep.equal(['trash']);
  });

  it('refuses to commit or freeze a layer with a subvolume in it, which a snapshot would lose', async () => {
    await root.add(driver, 1, []);
    await must('btrfs', ['subvolume', 'create', root.tree(1, 'outer')]);
    await must('btrfs', ['subvolume', 'create', root.tree(1, 'outer/inner')]);
    await mkdir(join(root.path, 'new-2'));
    for (const refused of [driver.seal(stack(1)), driver.freeze(stack(1), join(root.path, 'new-2'))]) {
      const error = await rejection(refused);
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.contain('"outer"');
    }
  });

  it('a layer over 1 GiB costs no more time and space than one over nothing', async () => {
    for (const [number, files] of [
      [1, 0],
      [2, 16],
    ] as const) {
      await root.add(driver, number, []);
      for (let file = 0; file < files; file += 1) await fillMegabytes(root, number, String(file));
      await root.commit(driver, number);
    }
    const before = await usedBytes(root);
    const times = { 1: [] as number[], 2: [] as number[] };
    for (const parent of [1, 2, 1, 2, 1, 2, 1, 2, 1, 2] as const) {
      const start = performance.now();
      await root.add(driver, 10 + times[1].length + 10 * times[2].length, [parent]);
      times[parent].push(performance.now() - start);
    }
    expect(Math.min(...times[2])).to.be.below(Math.min(...times[1]) * 2 + 20);
    expect((await usedBytes(root)) - before).to.be.below(2 * mebibyte);
  });

  it('a layer that is mounted somewhere is in use, also after it was removed', async () => {
    await root.add(driver, 1, []);
    expect(await isInUse(driver, stack(1)[0])).to.equal(false);
    const mountPoint = join(root.disk, 'mount');
    await mkdir(mountPoint);
    const container = await inNamespace('private', 'mount --bind "$1" "$2"', root.tree(1), mountPoint);
    expect(await isInUse(driver, stack(1)[0])).to.equal(true);
    await must('mv', [join(root.path, '1'), join(root.path, 'trash/1')]);
    expect(await isInUse(driver, stack(1)[0])).to.equal(true);
    await container.end();
    await until('the mount to be gone', 5_000, async () => !(await isInUse(driver, stack(1)[0])));
  });

  it('deletes nothing of a layer in which something is mounted', async () => {
    await root.add(driver, 1, []);
    for (const name of ['file', 'inner/file', 'mount/file']) {
      if (name === 'inner/file') await must('btrfs', ['subvolume', 'create', root.tree(1, 'inner')]);
      if (name === 'mount/file') await mkdir(root.tree(1, 'mount'));
      writeFileSync(root.tree(1, name), 'x');
    }
    await must('mount', ['-t', 'tmpfs', 'varve-test', root.tree(1, 'mount')]);
    expect(await rejection(driver.delete(join(root.path, '1')))).to.be.instanceOf(FailedPrecondition);
    await must('umount', [root.tree(1, 'mount')]);
    expect((await readdir(root.tree(1))).sort()).to.deep.equal(['file', 'inner', 'mount']);
    await root.remove(driver, 1);
  });

  it('a layer is frozen in use, and its writer goes on in the same place', async () => {
    await root.add(driver, 1, []);
    const file = root.tree(1, 'file');
    writeFileSync(file, 'before');
    const { ino } = await stat(root.tree(1));
    const result = await root.draft(2, draft => driver.freeze(stack(1), draft));
    await driver.placed(stack(2), 'committed');
    writeFileSync(file, 'after');
    expect(result).to.equal('frozen');
    expect(readFileSync(root.tree(2, 'file'), 'utf8')).to.equal('before');
    expect((await stat(root.tree(1))).ino).to.equal(ino);
    expect(() => writeFileSync(root.tree(2, 'file'), 'x')).to.throw(/EROFS/);
    expect((await driver.usage(stack(1, 2))).inodes).to.equal(0);
  });

  it('what is frozen under a writer is one point in time: no later write without those flushed before it', async () => {
    await root.add(driver, 1, []);
    const script =
      'cd "$1"; n=0; while n=$((n+1)); do for f in a b; do printf %08d $n | dd of=$f conv=fsync,notrunc; done; done';
    const writer = spawn('sh', ['-c', script, 'sh', root.tree(1)], { stdio: 'ignore' });
    const ended = once(writer, 'exit');
    try {
      await until('the writer to write', 5_000, () => lastNumber(root.tree(1, 'b')) > 0);
      for (let number = 2; number < 12; number += 1) {
        await root.draft(number, draft => driver.freeze(stack(1), draft));
        const [first, second] = [lastNumber(root.tree(number, 'a')), lastNumber(root.tree(number, 'b'))];
        expect(first - second, `a: ${first}, b: ${second}`).to.be.oneOf([0, 1]);
        const seen = lastNumber(root.tree(1, 'b'));
        await until('the writer to go on', 5_000, () => lastNumber(root.tree(1, 'b')) > seen);
      }
    } finally {
      writer.kill('SIGKILL');
      await ended;
    }
  });
});

async function subvolumes(root: LayerRoot): Promise<readonly string[]> {
  const { stdout } = await run('btrfs', ['subvolume', 'list', root.disk]);
  return stdout
    .split('\n')
    .flatMap(line => / path (.*)$/.exec(line)?.[1] ?? [])
    .sort();
}

/** A file of 64 MiB, which shares its data with the others, so that it is made fast. */
async function fillMegabytes(root: LayerRoot, number: number, name: string): Promise<void> {
  const source = join(root.disk, 'source');
  if (name === '0')
    await must('dd', ['if=/dev/zero', `of=${source}`, 'bs=1M', 'count=64', 'conv=notrunc', 'status=none']);
  await must('cp', ['--reflink=always', source, root.tree(number, name)]);
}

async function usedBytes(root: LayerRoot): Promise<number> {
  await must('sync', ['-f', root.disk]);
  const { blocks, bfree, bsize } = await statfs(root.disk);
  return (blocks - bfree) * bsize;
}

function lastNumber(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8').trim());
  } catch {
    return 0;
  }
}
