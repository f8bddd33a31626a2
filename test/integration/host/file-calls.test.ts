import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants as system, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { InvalidArgument, NotFound } from '../../../src/errors/errors.ts';
import {
  directoryFlags,
  fchmod,
  fchmodat,
  fchown,
  futimes,
  lchownat,
  linkat,
  linkOpenFile,
  lutimesat,
  mkdirat,
  mknodat,
  newFileFlags,
  openat,
  openat2,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  readlinkat,
  readNames,
  renameat2,
  rmdirat,
  symlinkat,
  unlinkat,
} from '../../../src/host/linux/file-calls.ts';
import { cloneData, copyFileRange, seekData, seekHole } from '../../../src/host/linux/file-data.ts';
import { type FileStatus, fstat, lstatat } from '../../../src/host/linux/file-status.ts';
import { check } from '../../../src/host/linux/native.ts';
import { O_PATH } from '../../../src/host/linux/safe-path.ts';
import { strictlyBelow } from '../../../src/host/linux/system-calls.ts';
import { getXattr, listXattrs, removeXattr, setXattr } from '../../../src/host/linux/xattr-calls.ts';

const { EEXIST, ELOOP, ENODATA, ENOENT, ENXIO, EOPNOTSUPP, EPERM, EXDEV } = system.errno;
const name = (text: string) => Buffer.from(text, 'latin1');

function found(status: FileStatus | number): FileStatus {
  if (typeof status === 'number') throw new Error(`errno ${-status}`);
  return status;
}

describe('synchronous file calls', () => {
  let path: string;
  let root: number;

  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'varve-calls-'));
    root = openSync(path, directoryFlags);
  });

  afterEach(() => {
    closeSync(root);
    rmSync(path, { recursive: true });
  });

  it('makes each type of file, and says what it is', () => {
    check(mkdirat(root, name('d'), 0o700), 'mkdir');
    check(symlinkat(name('to\xff'), root, name('l')), 'symlink');
    check(mknodat(root, name('c'), constants.S_IFCHR | 0o600, { major: 4000, minor: 700_000 }), 'mknod');
    check(mknodat(root, name('b'), constants.S_IFBLK | 0o600, { major: 7, minor: 300 }), 'mknod');
    check(mknodat(root, name('p'), constants.S_IFIFO | 0o600, { major: 0, minor: 0 }), 'mknod');
    closeSync(check(openat(root, name('f'), newFileFlags, 0o600), 'open'));
    const types = ['d', 'l', 'c', 'b', 'p', 'f'].map(each => found(lstatat(root, name(each))).type);
    expect(types).to.deep.equal(['directory', 'symlink', 'character', 'block', 'fifo', 'file']);
    expect(found(lstatat(root, name('c'))).device).to.deep.equal({ major: 4000, minor: 700_000 });
    expect(found(lstatat(root, name('b'))).device).to.deep.equal({ major: 7, minor: 300 });
    expect(readlinkat(root, name('l'))).to.deep.equal(name('to\xff'));
    expect(readNames(root).length).to.equal(6);
  });

  it('keeps names that are not UTF-8', () => {
    closeSync(check(openat(root, name('\xff\xfe'), newFileFlags, 0o600), 'open'));
    expect(readNames(root)).to.deep.equal([name('\xff\xfe')]);
  });

  it('gives the negated errno, and throws it as ours on demand', () => {
    expect(openat(root, name('none'), constants.O_RDONLY)).to.equal(-ENOENT);
    expect(lstatat(root, name('none'))).to.equal(-ENOENT);
    expect(readlinkat(root, name('none'))).to.equal(-ENOENT);
    expect(() => check(unlinkat(root, name('none')), 'remove', name('none'))).to.throw(
      NotFound,
      'remove "none"',
    );
  });

  it('refuses a path that the kernel would cut off', () => {
    expect(() => unlinkat(root, name('a\0b'))).to.throw(InvalidArgument, 'NUL');
    expect(() => unlinkat(root, Buffer.alloc(4096, 'a'))).to.throw(InvalidArgument, 'too long');
    expect(unlinkat(root, Buffer.alloc(300, 'a'))).to.equal(-system.errno.ENAMETOOLONG);
  });

  it('opens below a directory only', () => {
    symlinkat(name('/etc'), root, name('out'));
    expect(openat2(root, name('../x'), constants.O_RDONLY, strictlyBelow)).to.equal(-EXDEV);
    expect(openat2(root, name('out/passwd'), constants.O_RDONLY, strictlyBelow)).to.equal(-ELOOP);
    closeSync(check(openat2(root, name('.'), constants.O_RDONLY, strictlyBelow), 'open'));
  });

  it('changes owner, mode and times of a link itself, and of an open file', () => {
    symlinkat(name('f'), root, name('l'));
    const fd = check(openat(root, name('f'), newFileFlags, 0o600), 'open');
    const [access, change] = [
      { seconds: -5, nanoseconds: 7 },
      { seconds: 2 ** 33 + 5, nanoseconds: 999_999_999 },
    ];
    check(lchownat(root, name('l'), 4_000_000_000, 8), 'chown');
    check(lutimesat(root, name('l'), access, change), 'utimes');
    check(fchown(fd, 5, 6), 'chown');
    check(fchmod(fd, 0o4711), 'chmod');
    check(futimes(fd, change, access), 'utimes');
    expect(fchmodat(root, name('l'), 0o777)).to.equal(-EOPNOTSUPP);
    const [link, file] = [found(lstatat(root, name('l'))), found(fstat(fd))];
    closeSync(fd);
    expect(link).to.include({ uid: 4_000_000_000, gid: 8, mtimeNs: (2n ** 33n + 6n) * 1_000_000_000n - 1n });
    expect(link.accessTime).to.deep.equal(access);
    expect(file).to.include({ uid: 5, gid: 6, mode: 0o4711, mtimeNs: -4_999_999_993n });
    expect(file.mtime).to.deep.equal(access);
    check(fchmodat(root, name('f'), 0o600), 'chmod');
    expect(found(lstatat(root, name('f'))).mode).to.equal(0o600);
  });

  it('links, renames and removes', () => {
    closeSync(check(openat(root, name('a'), newFileFlags, 0o600), 'open'));
    symlinkat(name('a'), root, name('l'));
    check(linkat(root, name('l'), root, name('m')), 'link');
    expect(found(lstatat(root, name('m'))).type).to.equal('symlink');
    expect(renameat2(root, name('a'), root, name('m'), RENAME_NOREPLACE)).to.equal(-EEXIST);
    check(renameat2(root, name('a'), root, name('m'), RENAME_EXCHANGE), 'rename');
    expect(found(lstatat(root, name('m'))).type).to.equal('file');
    const fd = check(openat(root, name('m'), constants.O_RDONLY), 'open');
    check(linkOpenFile(fd, root, name('n')), 'link');
    expect(found(fstat(fd)).nlink).to.equal(2);
    closeSync(fd);
    check(mkdirat(root, name('d'), 0o700), 'mkdir');
    check(rmdirat(root, name('d')), 'rmdir');
    expect(readNames(root).map(String).sort()).to.deep.equal(['a', 'l', 'm', 'n']);
  });

  it('keeps attributes of files, links and directories as bytes', () => {
    const value = Buffer.from([0, 0xff, 0x80]);
    symlinkat(name('nowhere'), root, name('l'));
    const fd = check(openat(root, name('f'), newFileFlags, 0o600), 'open');
    for (const target of [fd, [root, name('l')], [root, name('')]] as const) {
      check(setXattr(target, 'trusted.a\xff', value), 'set');
      check(setXattr(target, 'trusted.empty', Buffer.alloc(0)), 'set');
      expect(listXattrs(target)).to.have.members(['trusted.a\xff', 'trusted.empty']);
      expect(getXattr(target, 'trusted.a\xff')).to.deep.equal(value);
      expect(getXattr(target, 'trusted.empty')).to.deep.equal(Buffer.alloc(0));
      check(removeXattr(target, 'trusted.a\xff'), 'remove');
      expect(getXattr(target, 'trusted.a\xff')).to.equal(-ENODATA);
    }
    expect(setXattr([root, name('l')], 'user.a', value)).to.equal(-EPERM);
    closeSync(fd);
  });

  it('attributes of a file that can only be looked up are reached through its directory', () => {
    mkdirSync(join(path, 'd'));
    const fd = check(openat(root, name('d'), O_PATH | constants.O_DIRECTORY), 'open');
    check(setXattr([fd, name('')], 'user.a', name('v')), 'set');
    expect(listXattrs([root, name('d')])).to.deep.equal(['user.a']);
    closeSync(fd);
  });

  it('finds holes and copies data', () => {
    const fd = check(openat(root, name('sparse'), constants.O_RDWR | constants.O_CREAT, 0o600), 'open');
    writeFileSync(join(path, 'data'), Buffer.alloc(8192, 'x'));
    const from = check(openat(root, name('data'), constants.O_RDONLY), 'open');
    expect(seekHole(from, 0)).to.equal(8192);
    expect(copyFileRange(from, fd, 4096, 8192)).to.equal(4096);
    expect(seekData(fd, 0)).to.equal(4096);
    expect(seekData(fd, 8192)).to.equal(-ENXIO);
    expect(readFileSync(join(path, 'sparse')).subarray(4096).toString()).to.equal('x'.repeat(4096));
    // ext4 cannot share data; what matters is that the call is made right.
    expect(cloneData(from, fd)).to.be.oneOf([0, -EOPNOTSUPP]);
    closeSync(from);
    closeSync(fd);
  });
});
