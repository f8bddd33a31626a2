import { lstatSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import type { CopyProgress } from '../../../src/core/ports.ts';
import { copyTask } from '../../../src/drivers/layers/archive/copy.ts';
import { Aborted } from '../../../src/errors/errors.ts';
import { LoopDisk } from '../../support/loop-disk.ts';
import { deepTree, describeTree, quiet, setfattr, Workbench } from './reading.ts';

describe('the copy of a tree', () => {
  let bench: Workbench;
  let from: string;
  let into: string;

  beforeEach(async () => {
    bench = new Workbench();
    [from, into] = [bench.directory('from'), bench.directory('into')];
    await must('sh', [
      '-c',
      `cd "$1"; umask 022; mkdir -p dir/sub; echo text > dir/file; ln dir/file hard; ln -s ../nowhere link
       mkfifo fifo; mknod whiteout c 0 0; mknod block b 7 300; echo x > "$(printf 'not-\\377-utf8')"
       truncate -s 3M sparse; printf middle >> sparse; truncate -s 9M sparse; head -c 3000000 /dev/urandom > large
       chown 4000000000:3000000000 large; chown -h 7:8 link; chmod 6711 large; chmod 1777 dir; chmod 700 .
       python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
       setfacl -m u:5:r -d -m u:5:r dir 2>/dev/null || true
       touch -d '1901-02-03 04:05:06.123456789 UTC' large; touch -h -d '2200-01-01 00:00:00.000000001 UTC' link
       touch -d '2001-01-01 UTC' dir`,
      'sh',
      from,
    ]);
    await setfattr(join(from, 'dir'), 'trusted.overlay.opaque', 'y');
    await setfattr(join(from, 'link'), 'trusted.of-link', 'v');
    await setfattr(join(from, 'large'), 'security.capability', '0x0100000200200000000000000000000000000000');
  });

  afterEach(() => bench.close());

  const copy = (target = into, context = quiet) =>
    copyTask({ from: bench.open(from), into: bench.open(target) }, context);

  it('has everything that the tree has', () => {
    copy();
    expect(describeTree(into, 'none')).to.deep.equal(describeTree(from, 'none'));
    expect(lstatSync(into).mtimeMs).to.equal(lstatSync(from).mtimeMs);
  });

  it('keeps holes', () => {
    copy();
    expect(statSync(join(into, 'sparse')).blocks).to.equal(statSync(join(from, 'sparse')).blocks);
  });

  for (const kind of ['ext4', 'xfs', 'btrfs'] as const) {
    it(`has everything on ${kind}, where ${kind === 'ext4' ? 'data is copied' : 'data is shared'}`, async function () {
      this.timeout(60_000);
      const disk = await LoopDisk.make(join(bench.path, 'disk'), 400, kind);
      const at = bench.directory('mount');
      await disk.mount(at);
      try {
        const other = bench.directory('mount/one');
        copy(other);
        expect(describeTree(other, 'none')).to.deep.equal(describeTree(from, 'none'));
        from = other;
        const twin = bench.directory('mount/two');
        const shared = async () => {
          const { stdout } = await must('filefrag', ['-v', join(twin, 'large')]);
          return stdout.includes('shared');
        };
        copy(twin);
        await must('sync', ['-f', at]);
        expect(describeTree(twin, 'none')).to.deep.equal(describeTree(other, 'none'));
        expect(await shared()).to.equal(kind !== 'ext4');
      } finally {
        bench.closeFiles();
        await LoopDisk.unmount(at);
      }
    });
  }

  it('tells how far it is, and ends with all of it', () => {
    const told: CopyProgress[] = [];
    copy(into, {
      ...quiet,
      progress: (value: unknown) => void told.push(value as CopyProgress),
    } as typeof quiet);
    const totalBytes = 5 + 2 + 9 * 1024 * 1024 + 3_000_000;
    expect(told.at(0)).to.deep.equal({ doneBytes: 0, totalBytes });
    expect(told.at(-1)).to.deep.equal({ doneBytes: totalBytes, totalBytes });
  });

  it('ends when it is told to', () => {
    const stop = () => {
      throw new Aborted('stopped');
    };
    expect(() => copy(into, { ...quiet, throwIfAborted: stop })).to.throw(Aborted, 'stopped');
    expect(readdirSync(into)).to.deep.equal([]);
  });

  it('goes as deep as the tree', async function () {
    this.timeout(60_000);
    deepTree(bench.open(join(from, 'dir/sub')), 10_000);
    copy();
    const { stdout } = await must('find', [into, '-type', 'd', '-name', 'd', '-printf', 'x']);
    expect(stdout.length).to.equal(10_000);
  });
});
