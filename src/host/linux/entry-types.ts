import { closeSync, constants, openSync } from 'node:fs';
import { check, libc, rawCall } from './native.ts';
import { descriptorPath } from './safe-path.ts';

const cGetdents64 = libc.func('long getdents64(int fd, void *entries, size_t size)');

/** Whether an open directory says of its entries, without a look at each, what they are (getdents(2), `d_type`). */
export function reportsTypes(directory: number): boolean {
  const [typeAt, DT_UNKNOWN] = [18, 0];
  const entries = Buffer.alloc(4096);
  // Opened anew, to read from the beginning.
  const fd = openSync(descriptorPath(directory), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const length = check(rawCall(cGetdents64, fd, entries, entries.length), 'list a directory');
    for (let at = 0; at < length; at += entries.readUInt16LE(at + 16)) {
      if (entries[at + typeAt] === DT_UNKNOWN) return false;
    }
    return true;
  } finally {
    closeSync(fd);
  }
}
