import { closeSync, constants, openSync } from 'node:fs';
import { lstatat } from './file-status.ts';
import { check, libc, rawCall } from './native.ts';
import { descriptorPath } from './safe-path.ts';

const cGetdents64 = libc.func('long getdents64(int fd, void *entries, size_t size)');
const cLseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');

const ENOENT = 2;
const [DT_UNKNOWN, DT_DIR] = [0, 4];
/** Offsets in struct linux_dirent64, the same on every architecture. */
const [lengthAt, typeAt, nameAt] = [16, 18, 19];

/** One for all calls, each of which has read it before it returns. */
const batch = Buffer.alloc(32 * 1024);

export interface DirectoryEntry {
  /** Text in which each character is one byte (latin1). */
  readonly name: string;
  readonly directory: boolean;
}

/**
 * The entries of an open directory from where its descriptor stands, a thousand or so (getdents(2)); memory does not
 * grow with the width of the directory. @returns undefined at the end, and of a directory that is deleted
 */
export function nextEntries(directory: number): DirectoryEntry[] | undefined {
  const length = rawCall(cGetdents64, directory, batch, batch.length);
  if (length === 0 || length === -ENOENT) return undefined;
  check(length, 'list a directory');
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < length; at += batch.readUInt16LE(at + lengthAt)) {
    const name = batch.toString('latin1', at + nameAt, batch.indexOf(0, at + nameAt));
    if (name === '.' || name === '..') continue;
    const type = batch[at + typeAt];
    entries.push({ name, directory: type === DT_UNKNOWN ? isDirectory(directory, name) : type === DT_DIR });
  }
  return entries;
}

/** {@link nextEntries} starts anew. */
export function rewind(directory: number): void {
  const SEEK_SET = 0;
  check(rawCall(cLseek, directory, 0, SEEK_SET), 'list a directory');
}

function isDirectory(directory: number, name: string): boolean {
  const status = lstatat(directory, Buffer.from(name, 'latin1'));
  return typeof status !== 'number' && status.type === 'directory';
}

/** Whether an open directory says of its entries, without a look at each, what they are (getdents(2), `d_type`). */
export function reportsTypes(directory: number): boolean {
  const entries = Buffer.alloc(4096);
  // Opened anew, to read from the beginning.
  const fd = openSync(descriptorPath(directory), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const length = check(rawCall(cGetdents64, fd, entries, entries.length), 'list a directory');
    for (let at = 0; at < length; at += entries.readUInt16LE(at + lengthAt)) {
      if (entries[at + typeAt] === DT_UNKNOWN) return false;
    }
    return true;
  } finally {
    closeSync(fd);
  }
}
