import { closeSync } from 'node:fs';
import { fstat } from './file-status.ts';
import { check, libc, rawCall } from './native.ts';
import { O_CLOEXEC, O_PATH } from './safe-path.ts';

const cOpenByHandleAt = libc.func('int open_by_handle_at(int mount, void *handle, int flags)');

/** A file as its file system knows it, whatever its names are (open_by_handle_at(2)). */
export interface FileHandle {
  readonly type: number;
  readonly handle: Buffer;
}

/** @param disk an open file of the same file system @returns its inode number, or undefined when it is gone */
export function inodeOfHandle(disk: number, { type, handle }: FileHandle): bigint | undefined {
  const ESTALE = 116;
  const struct = Buffer.alloc(8 + handle.length);
  struct.writeUInt32LE(handle.length, 0);
  struct.writeInt32LE(type, 4);
  handle.copy(struct, 8);
  const fd = rawCall(cOpenByHandleAt, disk, struct, O_PATH | O_CLOEXEC);
  if (fd === -ESTALE) return undefined;
  check(fd, 'open a file by its handle');
  try {
    const status = fstat(fd);
    return typeof status === 'number' ? undefined : status.ino;
  } finally {
    closeSync(fd);
  }
}
