import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { Aborted, FailedPrecondition } from '../../../src/errors/errors.ts';
import { removeTreeNow } from '../../../src/host/linux/remove-tree.ts';
import { measureTree, removeTree } from '../../../src/host/linux/trees.ts';
import { measureTreeNow } from '../../../src/host/linux/usage.ts';
import { Scratch } from '../../support/host-scratch.ts';
import { rejection } from '../../support/rejection.ts';

/** The walks over trees: what happens while they are on their way is done where they ask whether to stop. */
describe('walks over trees', () => {
  const never = () => {};
  let scratch: Scratch;
  let fd: number;
  let close: () => Promise<void>;
  let outside: string;

  beforeEach(async () => {
    scratch = await Scratch.make();
    const handle = await open(scratch.path);
    fd = handle.fd;
    close = () => handle.close();
    outside = await scratch.directory('outside');
    await writeFile(join(outside, 'secret'), 'untouched');
  });

  afterEach(async () => {
    await close();
    await scratch.remove();
  });

  const path = (name: string) => join(scratch.path, name);
  const thrownBy = (act: () => unknown): unknown => {
    try {
      act();
    } catch (error) {
      return error;
    }
    return undefined;
  };
  const openFiles = () => readdirSync('/proc/self/fd').length;
  const once = (act: () => void) => {
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      act();
    };
  };
  /** Directories in one another, a dozen files in each. */
  const fill = (name: string, levels: number): void => {
    let directory = path(name);
    for (let level = 0; level < levels; level += 1, directory = join(directory, 'below')) {
      mkdirSync(directory);
      for (let file = 0; file < 12; file += 1) writeFileSync(join(directory, `file-${file}`), '');
    }
  };
  const stopAt = (count: number) => {
    let asked = 0;
    return () => {
      asked += 1;
      if (asked === count) throw new Aborted('stopped');
    };
  };

  it('stop where they are, leave nothing open, and can be done again', () => {
    fill('tree', 100);
    const before = openFiles();
    expect(thrownBy(() => measureTreeNow(fd, stopAt(90)))).to.be.instanceOf(Aborted);
    expect(thrownBy(() => removeTreeNow(fd, 'tree', stopAt(90)))).to.be.instanceOf(Aborted);
    expect(openFiles()).to.equal(before);
    const { inodes } = measureTreeNow(fd, never);
    expect(inodes).to.be.within(100, 1_303);
    removeTreeNow(fd, 'tree', never);
    expect(readdirSync(scratch.path)).to.deep.equal(['outside']);
  });

  it('stop in their worker thread when the signal fires', async () => {
    fill('tree', 2);
    const abort = new AbortController();
    const measured = rejection(measureTree(fd, abort.signal));
    abort.abort();
    expect(await measured).to.be.instanceOf(Aborted);
  });

  it('delete what appears in a directory on which they work, and what refills one', () => {
    fill('tree', 3);
    let count = 0;
    removeTreeNow(fd, 'tree', () => {
      count += 1;
      if (count > 20) return;
      writeFileSync(path(`tree/late-${count}`), '');
      if (count % 2 === 0) mkdirSync(path(`tree/directory-${count}`));
    });
    expect(readdirSync(scratch.path)).to.deep.equal(['outside']);
  });

  it('give a directory up that somebody fills for ever', () => {
    fill('tree', 1);
    let count = 0;
    const write = () => {
      count += 1;
      writeFileSync(path(`tree/late-${count}`), '');
    };
    const error = thrownBy(() => removeTreeNow(fd, 'tree', write));
    expect(error).to.be.instanceOf(FailedPrecondition);
    expect((error as Error).message).to.include('somebody keeps writing to');
  });

  it('never enter what is mounted in the tree while they work', async () => {
    fill('tree', 3);
    await mkdir(path('tree/below/below/point'));
    const mount = once(() => {
      execFileSync('mount', ['--bind', outside, path('tree/below/below/point')]);
    });
    expect(thrownBy(() => removeTreeNow(fd, 'tree', mount))).to.be.instanceOf(FailedPrecondition);
    expect(await readFile(join(outside, 'secret'), 'utf8')).to.equal('untouched');
  });

  it('never follow a link, also one that takes the place of a directory', async () => {
    fill('tree', 3);
    await symlink(outside, path('tree/link'));
    await symlink(outside, path('link'));
    const exchange = once(() => {
      renameSync(path('tree/below/below'), path('aside'));
      renameSync(path('link'), path('tree/below/below'));
    });
    removeTreeNow(fd, 'tree', exchange);
    expect(await readFile(join(outside, 'secret'), 'utf8')).to.equal('untouched');
    expect(readdirSync(path('aside'))).to.have.length(12);
  });

  it('stop when a directory is moved out of a tree deeper than what stays open', () => {
    fill('tree', 100);
    let asked = 0;
    const move = () => {
      asked += 1;
      if (asked === 95) renameSync(path('tree/below'), path('moved'));
    };
    expect(thrownBy(() => removeTreeNow(fd, 'tree', move))).to.be.instanceOf(Aborted);
    expect(readdirSync(path('tree'))).to.deep.equal([]);
  });

  it('leave nothing of a tree of a few entries, whatever they are, and take a missing one as done', async () => {
    mkdirSync(path('few'));
    await symlink(outside, path('few/link'));
    mkdirSync(path('few/empty'));
    mkdirSync(path('few/full'));
    writeFileSync(path('few/full/file'), '');
    await removeTree(fd, 'few');
    await removeTree(fd, 'few');
    writeFileSync(path('file'), '');
    await removeTree(fd, 'file');
    expect(readdirSync(scratch.path)).to.deep.equal(['outside']);
    expect(await readFile(join(outside, 'secret'), 'utf8')).to.equal('untouched');
  });
});
