/**
 * With `index=on` a file with several names beneath, of which one was written to, has its new content in the index of
 * the work directory, where all its names find it. Once the upper directory is a layer by itself nobody looks there,
 * and the names that were not written to would show the old content. So all of them get into the upper directory
 * first. (Kernel, Documentation/filesystems/overlayfs.rst, "Inode properties" and "Index directory".)
 */
import { closeSync, lstat as lstatCallback } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MountSource } from '../../../core/mount.ts';
import { errorCode, fromErrno, fromNodeError } from '../../../errors/from-errno.ts';
import { lutimesat } from '../../../host/linux/file-calls.ts';
import { inodeOfHandle } from '../../../host/linux/file-handle.ts';
import { lstatat } from '../../../host/linux/file-status.ts';
import { check, shown } from '../../../host/linux/native.ts';
import { openOverlayView } from '../../../host/linux/overlay.ts';
import { TreeCursor } from '../../../host/linux/tree-cursor.ts';
import { getXattr } from '../../../host/linux/xattr-calls.ts';
import { step } from '../../../lib/fault.ts';
import { closing, openAll } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';

const lstat = promisify(lstatCallback);

export interface IndexedLayer {
  readonly root: string;
  /** What holds `fs` and `work`. */
  readonly home: string;
  /** What shows it, writable. */
  source(): Promise<MountSource>;
}

/** @throws FailedPrecondition when there are such names, and the layer is mounted */
export async function completeHardLinks(layer: IndexedLayer): Promise<void> {
  const inodes = await incompleteInodes(layer);
  if (inodes.size === 0) return;
  const source = await layer.source();
  if (source.type !== 'overlay') return;
  const fd = await openOverlayView(source.options, layer.root);
  try {
    await step('overlay.hard-links', () => copyUpNames(fd, inodes));
  } finally {
    closeSync(fd);
  }
}

/** The inode numbers, beneath, of indexed files that have more names than the upper directory. */
async function incompleteInodes({ home, root }: IndexedLayer): Promise<ReadonlySet<bigint>> {
  const path = join(home, 'work', 'index');
  const names = await readdir(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return [];
    throw fromNodeError(error, `read ${path}`);
  });
  const inodes = new Set<bigint>();
  if (names.length === 0) return inodes;
  const views = await openAll(
    () => openDirectoryView(path),
    () => openDirectoryView(root),
  );
  const [index, disk] = views;
  await closing(views, async () => {
    for (const name of names) {
      if (!isIncomplete(index.fd, Buffer.from(name))) continue;
      const inode = inodeOfHandle(disk.fd, handleIn(name));
      if (inode !== undefined) inodes.add(inode);
    }
  });
  return inodes;
}

/**
 * `trusted.overlay.nlink` says how many names there are altogether: as a difference (`U-1`) to the number of links of
 * the copy, of which the index is one; or to that of the original (`L+0`), which tells nothing here.
 */
function isIncomplete(index: number, name: Buffer): boolean {
  const status = lstatat(index, name);
  if (typeof status === 'number' || status.type === 'directory') return false;
  // A whiteout: no name is left.
  if (status.type === 'character' && status.device.major === 0 && status.device.minor === 0) return false;
  const value = getXattr([index, name], 'trusted.overlay.nlink');
  return typeof value === 'number' || !/^U-[1-9]/.test(value.toString('latin1'));
}

/** The name of an index entry is a file handle in hex (kernel, fs/overlayfs/overlayfs.h: struct ovl_fb). */
function handleIn(name: string): { readonly type: number; readonly handle: Buffer } {
  const bytes = Buffer.from(name, 'hex');
  const [typeAt, handleAt] = [4, 21];
  return { type: bytes[typeAt] ?? 0, handle: bytes.subarray(handleAt) };
}

/**
 * Setting the times of a name to what they are makes the kernel link its file into the upper directory. An inode number
 * that is another file's by chance only has that file copied.
 */
async function copyUpNames(fd: number, inodes: ReadonlySet<bigint>): Promise<void> {
  const cursor = await TreeCursor.at(fd, '.');
  try {
    const children = [await copyUpHere(cursor, inodes)];
    for (let here = children.at(-1); here !== undefined; here = children.at(-1)) {
      const child = here.pop();
      if (child === undefined) {
        children.pop();
        if (cursor.depth > 0) await cursor.leave();
      } else {
        await cursor.enter(child);
        children.push(await copyUpHere(cursor, inodes));
      }
    }
  } finally {
    cursor.close();
  }
}

/** @returns the directories among the entries */
async function copyUpHere(cursor: TreeCursor, inodes: ReadonlySet<bigint>): Promise<Buffer[]> {
  const directories: Buffer[] = [];
  const files: Buffer[] = [];
  for await (const { name, directory } of cursor.entries()) (directory ? directories : files).push(name);
  // An overlay of several file systems has its number for each of them in the highest bits (`xino`).
  const bitsOfInode = 48;
  for (const name of files) {
    const { ino, nlink } = await lstat(cursor.pathOf(name), { bigint: true });
    if (nlink === 1n || !inodes.has(BigInt.asUintN(bitsOfInode, ino))) continue;
    const status = lstatat(cursor.fd, name);
    if (typeof status === 'number') throw fromErrno(-status, `look at ${shown(name)}`);
    check(lutimesat(cursor.fd, name, status.accessTime, status.mtime), 'set the times of', name);
  }
  return directories;
}
