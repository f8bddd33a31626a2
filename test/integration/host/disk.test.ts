import { mkdirSync, writeFileSync } from 'node:fs';
import { link, mkdir, readFile, rename, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import type { CopyProgress, Directory } from '../../../src/core/ports.ts';
import { Aborted, Exhausted, FailedPrecondition, NotFound } from '../../../src/errors/errors.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';
import { diskSuite } from '../../suites/disk.ts';
import { must, Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

diskSuite('Linux', async () => {
  const scratch = await Scratch.make();
  return { disk: new LinuxDisk(), path: scratch.path, close: () => scratch.remove() };
});

describe('LinuxDisk', () => {
  const disk = new LinuxDisk();
  const never = new AbortController().signal;
  let scratch: Scratch;
  let outside: string;
  let root: Directory;

  beforeEach(async () => {
    scratch = await Scratch.make();
    outside = await scratch.directory('outside');
    await writeFile(join(outside, 'secret'), 'untouched');
    root = await disk.open(join(scratch.path, 'root'), { make: true });
  });

  afterEach(async () => {
    await root.close();
    await scratch.remove();
  });

  const untouched = async () => {
    expect(await readFile(join(outside, 'secret'), 'utf8')).to.equal('untouched');
    expect((await stat(outside)).mode & 0o7777).to.equal(0o755);
  };

  describe('a symbolic link', () => {
    beforeEach(async () => {
      await symlink(outside, join(root.path, 'link'));
      await symlink(join(outside, 'secret'), join(root.path, 'file-link'));
    });

    it('is followed to where a directory really is, and to nothing when it leads in circles', async () => {
      await mkdir(join(outside, 'below'));
      await symlink('circle', join(root.path, 'circle'));
      expect(await disk.realDirectory(join(root.path, 'link'))).to.equal(outside);
      expect(await disk.realDirectory(join(root.path, 'link/below'))).to.equal(join(outside, 'below'));
      expect(await disk.realDirectory(join(root.path, 'file-link'))).to.equal(undefined);
      expect(await disk.realDirectory(join(root.path, 'circle'))).to.equal(undefined);
    });

    it('in the way is never followed', async () => {
      const operations = [
        () => root.makeDirectory('link/new'),
        () => root.readFile('link/secret'),
        () => root.writeFile('link/secret', 'changed'),
        () => root.rename('link/secret', 'taken'),
        () => root.removeTree('link/secret'),
        () => root.list('link'),
        () => root.setAttributes('link', { mode: 0o777, uid: 1 }),
        () => root.attributes('link'),
        () => root.setImmutable('link', true),
        () => root.usage('link', never),
        () => root.makeDirectory('link', { exist: 'ok', mode: 0o777 }),
        () => root.readFile('file-link'),
      ];
      for (const operation of operations) {
        expect((await rejection(operation())).constructor.name).to.match(/FailedPrecondition|AlreadyExists/);
      }
      await untouched();
    });

    it('is replaced, moved or removed itself', async () => {
      await root.writeFile('file-link', 'new');
      expect(await root.readFile('file-link')).to.equal('new');
      await root.rename('link', 'moved');
      expect(await root.exists('moved')).to.equal(true);
      await root.removeTree('moved');
      expect(await root.list('.')).to.deep.equal(['file-link']);
      await untouched();
    });

    it('in a tree is removed and not followed', async () => {
      await root.makeDirectory('tree');
      await root.rename('link', 'tree/link');
      await root.removeTree('tree');
      await untouched();
    });
  });

  it('leads nowhere else when a parent is exchanged for a link while it works', async () => {
    await root.makeDirectory('parent');
    await symlink(outside, join(root.path, 'evil'));
    let swapping = true;
    const swap = (async () => {
      while (swapping) {
        await rename(join(root.path, 'parent'), join(root.path, 'aside'));
        await rename(join(root.path, 'evil'), join(root.path, 'parent'));
        await rename(join(root.path, 'parent'), join(root.path, 'evil'));
        await rename(join(root.path, 'aside'), join(root.path, 'parent'));
      }
    })();
    const outcomes = new Set<string>();
    for (let attempt = 0; attempt < 300; attempt += 1) {
      const done = root.writeFile('parent/secret', 'changed').then(() => root.removeTree('parent/secret'));
      outcomes.add(
        await done.then(
          () => 'done',
          error => error.constructor.name,
        ),
      );
    }
    swapping = false;
    await swap;
    await untouched();
    expect(outcomes, 'the race never happened').to.include('done').and.to.include('FailedPrecondition');
  });

  describe('a mount inside', () => {
    beforeEach(async () => {
      await mkdir(join(root.path, 'tree/below/mounted'), { recursive: true });
      await writeFile(join(root.path, 'tree/first'), '');
      await must('mount', '--bind', outside, join(root.path, 'tree/below/mounted'));
    });

    it('keeps a tree from being removed, before anything is deleted', async () => {
      const error = await rejection(root.removeTree('tree'));
      expect(error).to.be.instanceOf(FailedPrecondition);
      expect(error.message).to.include('tree/below/mounted');
      expect(await root.exists('tree/first')).to.equal(true);
      await untouched();
    });

    it('is not entered', async () => {
      const path = 'tree/below/mounted/secret';
      expect(await rejection(root.readFile(path))).to.be.instanceOf(FailedPrecondition);
      expect(await rejection(root.writeFile(path, ''))).to.be.instanceOf(FailedPrecondition);
      const { inodes } = await root.usage('tree', never);
      await must('umount', join(root.path, 'tree/below/mounted'));
      expect((await root.usage('tree', never)).inodes).to.equal(inodes);
    });
  });

  describe('removeTree', () => {
    it('removes what is immutable or append-only', async () => {
      await mkdir(join(root.path, 'tree/inner'), { recursive: true });
      await writeFile(join(root.path, 'tree/inner/file'), '');
      await writeFile(join(root.path, 'tree/log'), '');
      await must('chattr', '+i', join(root.path, 'tree/inner/file'), join(root.path, 'tree/inner'));
      await must('chattr', '+a', join(root.path, 'tree/log'));
      expect(await root.setImmutable('tree', true)).to.equal(true);
      await root.removeTree('tree');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('removes names that are not UTF-8, pipes and sockets', async () => {
      await root.makeDirectory('tree');
      const name = Buffer.concat([
        Buffer.from(join(root.path, 'tree/')),
        Buffer.from([0xff, 0xfe, 0x0a, 0x80]),
      ]);
      await mkdir(name);
      await writeFile(Buffer.concat([name, Buffer.from([0x2f, 0xc3])]), '');
      await must('mkfifo', join(root.path, 'tree/pipe'));
      await must('mknod', join(root.path, 'tree/null'), 'c', '1', '3');
      expect((await root.usage('tree', never)).inodes).to.equal(5);
      await root.removeTree('tree');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('removes and measures a tree of 3 000 levels', async function () {
      this.timeout(30_000);
      await root.makeDirectory('deep');
      makeDeep(join(root.path, 'deep'), 3_000);
      expect((await root.usage('deep', never)).inodes).to.equal(3_002);
      await root.removeTree('deep');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('removes a directory of many files and directories', async function () {
      this.timeout(30_000);
      await root.makeDirectory('wide');
      await must(
        'sh',
        '-c',
        'cd "$1" && seq 5000 | xargs touch && seq -f d%g 1000 | xargs mkdir',
        'sh',
        join(root.path, 'wide'),
      );
      await root.removeTree('wide');
      expect(await root.list('.')).to.deep.equal([]);
    });

    it('refuses the root itself', async () => {
      await rejection(root.removeTree('.'));
      expect(await disk.isDirectory(root.path)).to.equal(true);
    });
  });

  it('keeps an immutable directory empty until that is lifted', async () => {
    await root.makeDirectory('point');
    expect(await root.setImmutable('point', true)).to.equal(true);
    expect(await root.setImmutable('point', true)).to.equal(true);
    expect(await rejection(root.makeDirectory('point/x'))).to.be.instanceOf(FailedPrecondition);
    expect(await rejection(root.removeDirectory('point'))).to.be.instanceOf(FailedPrecondition);
    await root.setImmutable('point', false);
    await root.removeDirectory('point');
  });

  it('says of a file system without inode flags that it cannot', async () => {
    const control = await disk.open('/sys/fs');
    expect(await control.setImmutable('.', true)).to.equal(false);
    await control.close();
  });

  it('counts hard links once', async () => {
    await root.makeDirectory('a');
    await root.writeFile('a/one', 'x'.repeat(50_000));
    const before = await root.usage('.', never);
    await link(join(root.path, 'a/one'), join(root.path, 'a/two'));
    expect(await root.usage('.', never)).to.deep.equal(before);
  });

  it('counts the blocks of a sparse file, not its length', async () => {
    await root.writeFile('sparse', '');
    const before = await root.usage('.', never);
    await truncate(join(root.path, 'sparse'), 1024 ** 3);
    expect(await root.usage('.', never)).to.deep.equal(before);
  });

  it('leaves no descriptor open', async () => {
    const probe = await disk.open('/proc/self');
    // The worker thread that measures has some of its own.
    await root.writeFile('file', '');
    await root.usage('.', never);
    const before = (await probe.list('fd')).length;
    await root.makeDirectory('a');
    await root.writeFile('a/f', 'x');
    await rejection(root.makeDirectory('a'));
    await rejection(root.list('none/none'));
    await rejection(root.rename('a', 'none/b'));
    await root.usage('.', never);
    await root.removeTree('a');
    expect((await probe.list('fd')).length).to.equal(before);
    await probe.close();
  });

  describe('a full disk', () => {
    let small: Directory;

    beforeEach(async () => {
      const path = await scratch.directory('small');
      await must('mount', '-t', 'tmpfs', '-o', 'size=64k', 'varve-test', path);
      small = await disk.open(path);
      await small.writeFile('kept', 'old');
    });

    afterEach(() => small.close());

    it('answers Exhausted, keeps the old file and leaves no temporary one', async () => {
      expect(await rejection(small.writeFile('kept', 'x'.repeat(100_000)))).to.be.instanceOf(Exhausted);
      expect(await small.readFile('kept')).to.equal('old');
      expect(await small.list('.')).to.deep.equal(['kept']);
    });

    it('ends a copy with Exhausted', async () => {
      await writeFile(join(outside, 'big'), 'x'.repeat(200_000));
      await small.makeDirectory('copy');
      const copy = disk.copyTree(outside, small, 'copy', { signal: never, onProgress: () => {} });
      expect(await rejection(copy)).to.be.instanceOf(Exhausted);
    });
  });

  describe('copyTree', () => {
    it('copies contents, owners, modes, times, links, extended attributes and holes', async () => {
      const source = await scratch.directory('source');
      const script = `cd "$1"; mkdir sub; echo text > sub/file; chown 12:34 sub/file; chmod 4711 sub/file
        ln sub/file hard; ln -s /nowhere soft; touch -d 2001-02-03 hard; truncate -s 50M hole; mkfifo pipe
        setfattr -n user.a -v b sub 2>/dev/null || true; chmod 1770 .; chown 7:8 .`;
      await must('sh', '-ec', script, 'sh', source);
      await root.makeDirectory('copy');
      const seen: CopyProgress[] = [];
      const onProgress = (progress: CopyProgress) => seen.push(progress);
      await disk.copyTree(source, root, 'copy', { signal: never, onProgress });
      const describeTree = (path: string) =>
        must(
          'sh',
          '-ec',
          'cd "$1"; find . -printf "%p %y %m %U:%G %s %n %l %T+\\n" | sort; cat sub/file',
          'sh',
          path,
        );
      expect(await describeTree(join(root.path, 'copy'))).to.equal(await describeTree(source));
      expect((await root.usage('copy', never)).bytes).to.be.lessThan(1024 * 1024);
      expect(seen.at(-1)?.doneBytes).to.equal(seen.at(-1)?.totalBytes);
    });

    it('refuses a missing source with NotFound', async () => {
      const copy = disk.copyTree(`${outside}/none`, root, '.', { signal: never, onProgress: () => {} });
      expect(await rejection(copy)).to.be.instanceOf(NotFound);
    });

    it('stops when it is told to', async () => {
      await root.makeDirectory('copy');
      const abort = new AbortController();
      const copy = disk.copyTree(outside, root, 'copy', {
        signal: abort.signal,
        onProgress: () => abort.abort(),
      });
      expect(await rejection(copy)).to.be.instanceOf(Aborted);
      expect(await root.list('copy')).to.deep.equal([]);
    });
  });
});

/** A path of 3 000 names is longer than a path may be, so this goes down step by step. */
function makeDeep(path: string, levels: number): void {
  const before = process.cwd();
  process.chdir(path);
  try {
    for (let level = 0; level < levels; level += 1) {
      mkdirSync('d');
      process.chdir('d');
    }
    writeFileSync('file', '');
  } finally {
    process.chdir(before);
  }
}
