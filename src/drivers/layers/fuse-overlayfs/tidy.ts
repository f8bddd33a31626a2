import { unlink } from 'node:fs/promises';
import { NotFound } from '../../../errors/errors.ts';
import { errorCode } from '../../../errors/from-errno.ts';
import { check } from '../../../host/linux/native.ts';
import { TreeCursor } from '../../../host/linux/tree-cursor.ts';
import { removeXattr } from '../../../host/linux/xattr-calls.ts';

/** Beside the attribute of overlayfs the program puts these into a directory that hides those beneath. */
const markers: ReadonlySet<string> = new Set(['.wh..wh..opq', '.wh..opq']);
/** Where a file was copied up from: once the layer beneath was merged, the program takes two files for one by it. */
const origin = 'user.fuseoverlayfs.origin';

/**
 * Takes out of a layer what fuse-overlayfs keeps there for itself, so that it is like any layer of overlayfs. It may be
 * mounted meanwhile: the program needs none of it again.
 * @param tree an open directory; its mount refuses to make files of these names, so that they are nobody else's
 */
export async function removeOwnMarks(tree: number): Promise<void> {
  const cursor = await TreeCursor.at(tree, '.');
  try {
    const levels = [await tidyHere(cursor)];
    for (let children = levels.at(-1); children !== undefined; children = levels.at(-1)) {
      const child = children.pop();
      if (child === undefined) {
        levels.pop();
        if (cursor.depth > 0) await cursor.leave();
      } else if (await entered(cursor, child)) {
        levels.push(await tidyHere(cursor));
      }
    }
  } finally {
    cursor.close();
  }
}

/** @returns the directories in this one */
async function tidyHere(cursor: TreeCursor): Promise<Buffer[]> {
  const directories: Buffer[] = [];
  for await (const { name, directory } of cursor.entries()) {
    if (directory) directories.push(name);
    else if (markers.has(name.toString('latin1'))) await unlink(cursor.pathOf(name)).catch(unlessGone);
    else forgetOrigin(cursor.fd, name);
  }
  return directories;
}

function forgetOrigin(directory: number, name: Buffer): void {
  const [ENOENT, EPERM, ENODATA] = [2, 1, 61];
  const result = removeXattr([directory, name], origin);
  // What is neither a file nor a directory cannot have it (EPERM); and somebody may write to the layer.
  if (![-ENOENT, -EPERM, -ENODATA].includes(result)) check(result, 'remove an attribute of', name);
}

/** @returns false when it was deleted meanwhile */
async function entered(cursor: TreeCursor, child: Buffer): Promise<boolean> {
  try {
    await cursor.enter(child);
    return true;
  } catch (error) {
    unlessGone(error);
    return false;
  }
}

function unlessGone(error: unknown): void {
  if (!(error instanceof NotFound) && errorCode(error) !== 'ENOENT') throw error;
}
