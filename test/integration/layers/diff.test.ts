import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { must } from '../../../scripts/lib/process.ts';
import { diffTask } from '../../../src/drivers/layers/archive/write.ts';
import { Aborted, FailedPrecondition, Unimplemented } from '../../../src/errors/errors.ts';
import { mknodat } from '../../../src/host/linux/file-calls.ts';
import { openPipe } from '../../../src/host/linux/pipe.ts';
import { setXattr } from '../../../src/host/linux/xattr-calls.ts';
import { changesOf, deepTree, describeTree, diffOf, extract, quiet, setfattr, Workbench } from './reading.ts';

const overlayForm = { type: 'delta', prefix: 'trusted.overlay.' } as const;

describe('the archive of a layer', () => {
  let bench: Workbench;
  let tree: string;
  let archive: string;

  beforeEach(() => {
    bench = new Workbench();
    tree = bench.directory('tree');
    archive = join(bench.path, 'layer.tar');
  });

  afterEach(() => bench.close());

  const whole = (before: string | null, after: string) =>
    ({
      type: 'trees',
      before: before === null ? null : bench.open(before),
      after: bench.open(after),
    }) as const;
  const delta = (own: string, below: string | null) =>
    ({
      type: 'delta',
      tree: {
        own: bench.open(own),
        directory: bench.path,
        form: overlayForm,
        below: below === null ? null : bench.open(below),
      },
    }) as const;
  const names = async () =>
    (await must('tar', ['--quoting-style=literal', '-tf', archive])).stdout.trim().split('\n');

  it('holds everything that a file system can hold, as GNU tar reads it', async () => {
    await must('sh', [
      '-c',
      `cd "$1"; umask 022; mkdir -p dir/sub; echo text > dir/file; : > empty; ln dir/file hard; ln -s ../nowhere link; ln link hardlink-to-link
       mkfifo fifo; mknod character c 5 6; mknod block b 7 300; printf 'name' > "$(printf 'not-\\377-utf8')"
       printf %200s x | tr ' ' y > long; mkdir "$(printf %150s z | tr ' ' z)"; echo deep > z*/"$(printf %200s w | tr ' ' w)"
       ln -s "$(printf %300s t | tr ' ' t)" long-link
       chown 4000000000:3000000000 empty; chown -h 7:8 link; chmod 4711 dir/file; chmod 1777 dir
       touch -d '1901-02-03 04:05:06.123456789 UTC' long; touch -h -d '2200-01-01 00:00:00.000000001 UTC' link
       truncate -s 5M sparse; printf end >> sparse`,
      'sh',
      tree,
    ]);
    await setfattr(join(tree, 'long'), 'user.binary', '0x00ff0a3d00');
    await setfattr(join(tree, 'link'), 'trusted.of-link', 'value');
    await setfattr(join(tree, 'dir'), 'user.empty', '');
    await must('setcap', ['cap_net_raw=ep', join(tree, 'empty')]);
    await must('chmod', ['1700', tree]);

    diffOf(whole(null, tree), archive);
    const copy = bench.directory('copy');
    await extract(archive, copy);
    expect(describeTree(copy)).to.deep.equal(describeTree(tree));
  });

  it('is the same to the byte each time, whatever the order on the disk', () => {
    for (const name of ['b', 'a', 'c']) writeFileSync(join(tree, name), name);
    const first = diffOf(whole(null, tree), archive);
    expect(diffOf(whole(null, tree), archive).equals(first)).to.equal(true);
    expect(first.length).to.be.greaterThan(3 * 1024);
  });

  it('of nothing is an empty archive', () => {
    expect(diffOf(whole(null, tree), archive).equals(Buffer.alloc(1024))).to.equal(true);
  });

  it('names the top only when its mode, owner or attributes changed', async () => {
    const before = bench.directory('before');
    writeFileSync(join(tree, 'file'), '');
    diffOf(whole(before, tree), archive);
    expect(await names()).to.deep.equal(['file']);
    chmodSync(tree, 0o700);
    diffOf(whole(before, tree), archive);
    expect(await names()).to.deep.equal(['./', 'file']);
  });

  it('puts whiteouts before their siblings, and parents before children', async () => {
    const before = bench.directory('before');
    mkdirSync(join(before, 'd'));
    mkdirSync(join(tree, 'd'));
    for (const name of ['d/z', 'd/!']) writeFileSync(join(before, name), '');
    for (const name of ['d/a', 'a', 'd-']) writeFileSync(join(tree, name), '');
    diffOf(whole(before, tree), archive);
    expect(await names()).to.deep.equal(['a', 'd/', 'd/.wh.!', 'd/.wh.z', 'd/a', 'd-']);
  });

  it('leaves out sockets, and deletes what one took the place of', async () => {
    const before = bench.directory('before');
    writeFileSync(join(before, 'was-file'), '');
    const servers = await Promise.all(
      ['socket', 'was-file'].map(
        name =>
          new Promise<ReturnType<typeof createServer>>(resolve => {
            const server = createServer().listen(join(tree, name), () => resolve(server));
          }),
      ),
    );
    diffOf(whole(before, tree), archive);
    for (const server of servers) server.close();
    expect(await names()).to.deep.equal(['.wh.was-file']);
  });

  it('of a new name for an old file holds both, so that they are one file again', async () => {
    const [before, merged] = [bench.directory('before'), tree];
    writeFileSync(join(before, 'old'), 'content');
    await must('cp', ['-a', join(before, 'old'), join(merged, 'old')]);
    linkSync(join(merged, 'old'), join(merged, 'new'));
    diffOf(whole(before, merged), archive);
    expect(await names()).to.deep.equal(['new', 'old']);
    expect((await must('tar', ['-tvf', archive])).stdout).to.match(/old link to new/);
  });

  it('shows the user attributes that look like those of the union, and none of the union itself', async () => {
    writeFileSync(join(tree, 'file'), '');
    await setfattr(join(tree, 'file'), 'trusted.overlay.origin', 'x');
    await setfattr(join(tree, 'file'), 'trusted.overlay.overlay.opaque', 'nested');
    await setfattr(join(tree, 'file'), 'user.overlay.redirect', 'plain');
    diffOf(delta(tree, null), archive);
    const copy = bench.directory('copy');
    await extract(archive, copy);
    const { stdout } = await must('getfattr', ['-d', '-m', '-', '--absolute-names', join(copy, 'file')]);
    expect(stdout.split('\n').slice(1).filter(Boolean).sort()).to.deep.equal([
      'trusted.overlay.opaque="nested"',
      'user.overlay.redirect="plain"',
    ]);
  });

  it('knows whiteouts in the form of attributes, and opaque directories', async () => {
    const before = bench.directory('before');
    for (const name of ['x', 'y', 'y/nested']) {
      mkdirSync(join(before, name));
      mkdirSync(join(tree, name));
      for (const file of ['gone', 'kept']) writeFileSync(join(before, name, file), file);
    }
    await setfattr(join(tree, 'x'), 'trusted.overlay.opaque', 'x');
    writeFileSync(join(tree, 'x/gone'), '');
    await setfattr(join(tree, 'x/gone'), 'trusted.overlay.whiteout', 'y');
    await setfattr(join(tree, 'y'), 'trusted.overlay.opaque', 'y');
    const d = openSync(tree, 'r');
    mknodat(d, Buffer.from('of-nothing'), 0o020000, { major: 0, minor: 0 });
    closeSync(d);
    const deleted = changesOf(delta(tree, before)).filter(line => line.startsWith('D'));
    expect(deleted).to.deep.equal([
      'D /x/gone',
      'D /y/gone',
      'D /y/kept',
      'D /y/nested/gone',
      'D /y/nested/kept',
    ]);
  });

  it('fails when a part of the layer is not in it: a redirect, a file without its data', async () => {
    mkdirSync(join(tree, 'moved'));
    await setfattr(join(tree, 'moved'), 'trusted.overlay.redirect', '/elsewhere');
    expect(() => diffOf(delta(tree, null), archive)).to.throw(FailedPrecondition, /"\/moved".*redirect_dir/);
    rmSync(join(tree, 'moved'), { recursive: true });
    writeFileSync(join(tree, 'file'), '');
    const fd = openSync(join(tree, 'file'), 'r');
    setXattr(fd, 'trusted.overlay.metacopy', Buffer.alloc(0));
    closeSync(fd);
    expect(() => diffOf(delta(tree, null), archive)).to.throw(FailedPrecondition, /"\/file".*metacopy/);
  });

  it('fails for names that would mean something else in it', () => {
    writeFileSync(join(tree, '.wh.file'), '');
    expect(() => diffOf(whole(null, tree), archive)).to.throw(
      FailedPrecondition,
      /"\/\.wh\.file" cannot stand/,
    );
  });

  it('fails for a path that no archive can hold, however deep the tree', () => {
    deepTree(bench.open(tree), 2100);
    expect(() => diffOf(whole(null, tree), archive)).to.throw(Unimplemented, /more than 4095 bytes/);
  });

  it('ends when nobody reads it any more', () => {
    writeFileSync(join(tree, 'file'), Buffer.alloc(4 << 20));
    const { reader, writer } = openPipe();
    closeSync(reader);
    try {
      expect(() => diffTask({ comparison: whole(null, tree), sink: writer }, quiet)).to.throw(
        Aborted,
        /nobody reads/,
      );
    } finally {
      closeSync(writer);
    }
  });

  it('fails when a file becomes shorter while it is read', () => {
    const file = join(tree, 'file');
    writeFileSync(file, Buffer.alloc(4 << 20));
    const context = { ...quiet, throwIfAborted: () => truncateSync(file, 10) };
    const sink = openSync(archive, 'w');
    // The first look at the context comes before the file is looked at, the next while it is read.
    let looks = 0;
    const late = { ...quiet, throwIfAborted: () => (looks++ === 0 ? undefined : context.throwIfAborted()) };
    try {
      expect(() => diffTask({ comparison: whole(null, tree), sink }, late)).to.throw(
        Aborted,
        /"\/file" changed/,
      );
    } finally {
      closeSync(sink);
    }
  });
});
