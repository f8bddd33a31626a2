/** The only recursive delete. */
import { constants, readlinkSync } from 'node:fs';
import { lstat, open, rmdir, unlink } from 'node:fs/promises';
import { FailedPrecondition, NotFound } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';
import { isWithin, parseMountinfo, readMountinfo } from './mountinfo.ts';
import { descriptorPath } from './safe-path.ts';
import { FS_APPEND_FL, FS_IMMUTABLE_FL, inodeFlags, setInodeFlags } from './system-calls.ts';
import { TreeCursor, type TreeEntry } from './tree-cursor.ts';

/** Files that are deleted at one time. */
const filesAtOnce = 64;
/** Children that are remembered of one directory; the others are found when it is read again. */
const maxChildren = 256;
/** How many directories may turn out to be filled again by somebody else. */
const maxRefilled = 10;

/**
 * Deletes `name` in an open directory with all that is below it; a missing one is fine. Links are deleted, not
 * followed; immutable and append-only files too. Memory does not grow with the width of a directory.
 * @throws FailedPrecondition, before anything is deleted, when a mount stands in the tree; and when somebody
 * keeps writing to it
 */
export async function removeTree(parent: number, name: string): Promise<void> {
  const path = `${readlinkSync(descriptorPath(parent))}/${name}`;
  try {
    const there = await lstat(descriptorPath(parent, name));
    await refuseMountsBelow(path);
    if (there.isDirectory()) await emptyDirectory(parent, name);
    await removeEntry(parent, { name: Buffer.from(name), directory: there.isDirectory() });
  } catch (error) {
    if (!isGone(error)) throw fromNodeError(error, `remove the tree ${path}`);
  }
}

/** @throws FailedPrecondition when something is mounted on a path, or below it */
export async function refuseMountsBelow(path: string): Promise<void> {
  const mounted = parseMountinfo(readMountinfo('self')).find(entry => isWithin(entry.mountPoint, path));
  if (mounted === undefined) return;
  throw new FailedPrecondition(`cannot remove ${path}: ${mounted.mountPoint} is mounted; unmount it first`);
}

/** One directory on the way down, with the children that are still to be removed. */
interface Frame {
  readonly name: Buffer;
  readonly children: Buffer[];
}

async function emptyDirectory(parent: number, name: string): Promise<void> {
  const cursor = await TreeCursor.at(parent, name);
  const frames: Frame[] = [{ name: Buffer.from(name), children: [] }];
  let refilled = 0;
  try {
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const child = frame.children.pop();
      if (child !== undefined) {
        if (await entered(cursor, child)) frames.push({ name: child, children: [] });
      } else if (!(await removeFiles(cursor, frame.children))) {
        frames.pop();
        if (cursor.depth > 0 && !(await removeEmptied(cursor, frame.name))) refilled += 1;
      }
      if (refilled > maxRefilled)
        throw new FailedPrecondition(`somebody keeps writing to ${name}; stop that first`);
    }
  } finally {
    cursor.close();
  }
}

async function entered(cursor: TreeCursor, child: Buffer): Promise<boolean> {
  try {
    await cursor.enter(child);
    return true;
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** Steps back from an empty directory and removes it. @returns false when it is not empty any more */
async function removeEmptied(cursor: TreeCursor, name: Buffer): Promise<boolean> {
  await cursor.leave();
  try {
    await removeEntry(cursor.fd, { name, directory: true });
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOTEMPTY') return false;
    throw error;
  }
}

/** Deletes the files of a directory and collects its directories. @returns whether anything was in it */
async function removeFiles(cursor: TreeCursor, children: Buffer[]): Promise<boolean> {
  let files: TreeEntry[] = [];
  let found = false;
  for await (const entry of cursor.entries()) {
    found = true;
    if (entry.directory) children.push(entry.name);
    else files.push(entry);
    if (files.length === filesAtOnce) {
      await removeAll(cursor.fd, files);
      files = [];
    }
    if (children.length === maxChildren) break;
  }
  await removeAll(cursor.fd, files);
  return found;
}

async function removeAll(directory: number, entries: readonly TreeEntry[]): Promise<void> {
  await Promise.all(entries.map(entry => removeEntry(directory, entry)));
}

async function removeEntry(directory: number, entry: TreeEntry): Promise<void> {
  const path = Buffer.concat([Buffer.from(`${descriptorPath(directory)}/`), entry.name]);
  const remove = () => (entry.directory ? rmdir(path) : unlink(path));
  try {
    await remove().catch(async error => {
      if (errorCode(error) !== 'EPERM') throw error;
      await lift(directory, path);
      await remove();
    });
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** Clears what forbids to delete: on the directory and on the entry itself (ioctl_iflags(2)). */
async function lift(directory: number, path: Buffer): Promise<void> {
  clearFlags(directory);
  const entry = await lstat(path);
  // To open a device would act on it; and only files and directories have flags.
  if (!entry.isFile() && !entry.isDirectory()) return;
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    clearFlags(file.fd);
  } finally {
    await file.close();
  }
}

function clearFlags(fd: number): void {
  const { value, errno } = inodeFlags(fd);
  const cleared = value & ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
  if (errno === 0 && cleared !== value) setInodeFlags(fd, cleared);
}

function isGone(error: unknown): boolean {
  return error instanceof NotFound || errorCode(error) === 'ENOENT';
}
