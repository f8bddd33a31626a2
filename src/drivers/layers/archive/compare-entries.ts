import { closeSync, constants, readSync } from 'node:fs';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { openat, readlinkat } from '../../../host/linux/file-calls.ts';
import { seekData } from '../../../host/linux/file-data.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { bytesOf, shownPath, type TreeWalker } from '../../../host/linux/tree-walker.ts';
import type { TreeForm } from './archiver.ts';
import { refuseMetacopy } from './delta.ts';
import { readXattrs, sameXattrs, userXattrs } from './walk-xattrs.ts';

const ENXIO = 6;

/** An entry of the directory on which a walker stands. */
export interface Located {
  readonly walker: TreeWalker;
  readonly name: string;
  readonly status: FileStatus;
  readonly form: TreeForm;
}

/** What is asked of two files that look the same: their bytes, or only their times. */
export type Trust = 'content' | 'times';

/**
 * Whether an entry is another one than before, number of hard links and change of inode aside.
 *
 * The same inode number with the same ctime is the same file, also in a snapshot: nobody can set a ctime. Otherwise
 * all that stat(2) gives is compared, then the extended attributes, and when they are all equal the content: equal
 * size and mtime prove nothing, since archives and rsync(1) set mtimes, often to whole seconds. (containerd reads
 * only files whose mtimes are whole seconds, and misses the others.)
 * @param checkpoint called again and again while content is read; what it throws ends the work
 */
export function differs(before: Located, after: Located, trust: Trust, checkpoint: () => void): boolean {
  const [was, is] = [before.status, after.status];
  if (shape(was) !== shape(is) || was.mtimeNs !== is.mtimeNs) return true;
  if (was.ino === is.ino && was.ctimeNs === is.ctimeNs) return false;
  if (!sameXattrs(xattrsOf(before), xattrsOf(after))) return true;
  if (is.type === 'symlink') return !targetOf(before).equals(targetOf(after));
  return (
    is.type === 'file' && is.size > 0 && trust === 'content' && contentDiffers(before, after, checkpoint)
  );
}

/** The same for a layer's top directory, whose mtime comes with the layer and says nothing. */
export function topDiffers(before: Located, after: Located): boolean {
  return shape(before.status) !== shape(after.status) || !sameXattrs(xattrsOf(before), xattrsOf(after));
}

function shape({ type, mode, uid, gid, size, device }: FileStatus): string {
  const permissions = type === 'symlink' ? 0 : mode;
  return `${type} ${permissions} ${uid} ${gid} ${type === 'file' ? size : 0} ${device.major}:${device.minor}`;
}

/** Those of the user, as in {@link userXattrs}. */
export function xattrsOf({ walker, name, form }: Located): ReadonlyMap<string, Buffer> {
  return userXattrs(readXattrs([walker.fd, bytesOf(name)]), form);
}

export function targetOf({ walker, name }: Pick<Located, 'walker' | 'name'>): Buffer {
  const target = readlinkat(walker.fd, bytesOf(name));
  if (typeof target !== 'number') return target;
  check(target, `read the link ${shownPath(walker.pathOf(name))}`);
  return Buffer.alloc(0);
}

const [some, others] = [Buffer.alloc(256 * 1024), Buffer.alloc(256 * 1024)];

function contentDiffers(before: Located, after: Located, checkpoint: () => void): boolean {
  return withFile(before, one =>
    withFile(after, other => {
      refuseMetacopy(other, after.form, after.walker.pathOf(after.name));
      const { size } = after.status;
      for (let at = nextData(one, other, 0); at < size; at = nextData(one, other, at)) {
        checkpoint();
        const length = read(one, some, at);
        if (length !== read(other, others, at)) return true;
        if (length === 0) return false;
        if (!some.subarray(0, length).equals(others.subarray(0, length))) return true;
        at += length;
      }
      return false;
    }),
  );
}

/** Where either file goes on after what is a hole in both; infinity when nothing follows. */
function nextData(one: number, other: number, at: number): number {
  const next = [one, other].map(fd => {
    const data = seekData(fd, at);
    return data === -ENXIO ? Number.POSITIVE_INFINITY : check(data, 'look for data');
  });
  return Math.min(...next);
}

/** As much as there is, up to the size of the buffer. */
function read(fd: number, into: Buffer, at: number): number {
  let length = 0;
  for (let got = -1; got !== 0 && length < into.length; length += got) {
    try {
      got = readSync(fd, into, length, into.length - length, at + length);
    } catch (error) {
      throw fromNodeError(error, 'read a file');
    }
  }
  return length;
}

/** Opens a regular file for reading; should it have become a fifo, nothing waits for its other end. */
export function withFile<T>(at: Pick<Located, 'walker' | 'name'>, use: (fd: number) => T): T {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const fd = openat(at.walker.fd, bytesOf(at.name), flags);
  if (fd < 0) check(fd, `open ${shownPath(at.walker.pathOf(at.name))}`);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
