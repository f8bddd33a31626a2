import { constants } from 'node:fs';
import { Internal } from '../../errors/errors.ts';
import { check, libc, PathArgument, rawCall } from './native.ts';

const cStatx = libc.func('int statx(int fd, void *path, int flags, uint mask, void *statx)');

export type FileType = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket';

const types: ReadonlyMap<number, FileType> = new Map([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFCHR, 'character'],
  [constants.S_IFBLK, 'block'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
]);

/** What statx(2) says of a file. */
export interface FileStatus {
  readonly type: FileType;
  /** Permission bits, 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  /** Allocated, in units of 512 bytes. */
  readonly blocks: number;
  /** With `dev` unique on this host. */
  readonly ino: bigint;
  /** The device that holds the file; major times 2^20 plus minor. */
  readonly dev: number;
  /** Which device a device file stands for. */
  readonly device: { readonly major: number; readonly minor: number };
  readonly accessTime: { readonly seconds: number; readonly nanoseconds: number };
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
/** STATX_BASIC_STATS: all that stat(2) gives. */
const STATX_BASIC_STATS = 0x7ff;

const path = new PathArgument();
const none = Buffer.alloc(0);
const statx = Buffer.alloc(256);
const fields = new DataView(statx.buffer, statx.byteOffset, statx.length);

/** statx(2) of a name in an open directory, of a symbolic link itself. @returns the negated errno of a failure */
export function lstatat(directory: number, name: Buffer): FileStatus | number {
  const result = rawCall(cStatx, directory, path.of(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, statx);
  return result < 0 ? result : readStatus();
}

/** statx(2) of an open file, also of one opened with O_PATH. @returns the negated errno of a failure */
export function fstat(fd: number): FileStatus | number {
  const flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;
  const result = rawCall(cStatx, fd, path.of(none), flags, STATX_BASIC_STATS, statx);
  return result < 0 ? result : readStatus();
}

/** The status of something that has to be there. @throws what `fromErrno` gives */
export function mustBe(status: FileStatus | number, name: Buffer): FileStatus {
  if (typeof status !== 'number') return status;
  throw new Internal(`nothing failed at ${check(status, 'look at', name)}`);
}

/** Offsets of struct statx, the same on every architecture. */
function readStatus(): FileStatus {
  const bits = fields.getUint16(28, true);
  return {
    type: types.get(bits & constants.S_IFMT) ?? 'file',
    mode: bits & 0o7777,
    uid: fields.getUint32(20, true),
    gid: fields.getUint32(24, true),
    nlink: fields.getUint32(16, true),
    size: readNumber(40),
    blocks: readNumber(48),
    ino: fields.getBigUint64(32, true),
    dev: fields.getUint32(136, true) * 2 ** 20 + fields.getUint32(140, true),
    device: { major: fields.getUint32(128, true), minor: fields.getUint32(132, true) },
    accessTime: readTime(64),
    mtime: readTime(112),
    mtimeNs: readNanoseconds(112),
    ctimeNs: readNanoseconds(96),
  };
}

function readNumber(offset: number): number {
  return fields.getUint32(offset, true) + fields.getInt32(offset + 4, true) * 2 ** 32;
}

function readTime(offset: number): FileStatus['mtime'] {
  return { seconds: readNumber(offset), nanoseconds: fields.getUint32(offset + 8, true) };
}

function readNanoseconds(offset: number): bigint {
  return fields.getBigInt64(offset, true) * 1_000_000_000n + BigInt(fields.getUint32(offset + 8, true));
}
