/** Synchronous calls on the content of open files. Results: see native.ts. */
import { libc, rawCall } from './native.ts';

const cLseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
const cCopyFileRange = libc.func(
  'long copy_file_range(int from, void *fromOffset, int into, void *intoOffset, size_t length, uint flags)',
);
const cIoctlNumber = libc.func('ioctl', 'int', ['int', 'ulong', 'long']);

const [fromOffset, intoOffset] = [Buffer.alloc(8), Buffer.alloc(8)];

/** lseek(2), SEEK_DATA: the next data at or after `offset`; ENXIO when only a hole follows. */
export function seekData(fd: number, offset: number): number {
  return rawCall(cLseek, fd, offset, 3);
}

/** lseek(2), SEEK_HOLE: the next hole at or after `offset`; the end of a file counts as one. */
export function seekHole(fd: number, offset: number): number {
  return rawCall(cLseek, fd, offset, 4);
}

/** copy_file_range(2), at the same offset in both. @returns how many bytes were copied, 0 at the end of `from` */
export function copyFileRange(from: number, into: number, offset: number, length: number): number {
  fromOffset.writeBigInt64LE(BigInt(offset));
  intoOffset.writeBigInt64LE(BigInt(offset));
  return rawCall(cCopyFileRange, from, fromOffset, into, intoOffset, length, 0);
}

/** ioctl_ficlone(2): `into` shares all data of `from`. */
export function cloneData(from: number, into: number): number {
  const FICLONE = 0x40049409;
  return rawCall(cIoctlNumber, into, FICLONE, from);
}
