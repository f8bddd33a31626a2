import { call, libc, must } from './system-calls.ts';

const cIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);

/**
 * ioctl(2) of btrfs, on any open file of the file system; numbers and structures are those of the kernel's
 * include/uapi/linux/btrfs.h. @returns the errno
 */
export async function tryBtrfs(fd: number, request: number, argument: Buffer): Promise<number> {
  return (await call(cIoctl, fd, request, argument)).errno;
}

/** @param action what was done to what, for the message @throws what `fromErrno` gives */
export async function btrfs(fd: number, request: number, argument: Buffer, action: string): Promise<void> {
  must(await call(cIoctl, fd, request, argument), action);
}

/** An unsigned number of 64 bits; those that btrfs counts with stay far below 2^53. */
export function readU64(buffer: Buffer, offset: number): number {
  return buffer.readUInt32LE(offset) + buffer.readUInt32LE(offset + 4) * 0x1_0000_0000;
}

export function writeU64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeBigUInt64LE(BigInt(value), offset);
}
