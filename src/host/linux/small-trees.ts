/**
 * Trees of a few entries, on libuv's pool: a worker thread takes more time and memory to start than these. Whatever is
 * not plain is left to the walk that is.
 */
import { readlinkSync } from 'node:fs';
import { rmdir, stat, unlink } from 'node:fs/promises';
import { NotFound } from '../../errors/errors.ts';
import { refuseMountsBelow } from './remove-tree.ts';
import { descriptorPath } from './safe-path.ts';
import { TreeCursor, type TreeEntry } from './tree-cursor.ts';

const fewEntries = 8;

/**
 * Deletes a directory of a few files and empty directories, as a volume that nobody has used. Of another one some
 * entries may be gone then, but for one with a mount in it. @returns whether it is gone, or was before
 */
export async function removeSmallTree(parent: number, name: string): Promise<boolean> {
  try {
    refuseMountsBelow(`${readlinkSync(descriptorPath(parent))}/${name}`);
    const cursor = await TreeCursor.at(parent, name);
    try {
      const entries = await someEntries(cursor);
      if (entries.length > fewEntries) return false;
      const removals = entries.map(({ name, directory }) =>
        (directory ? rmdir : unlink)(cursor.pathOf(name)),
      );
      // All of them: the next file that is opened gets the number of the descriptor in their paths.
      const outcomes = await Promise.allSettled(removals);
      if (outcomes.some(({ status }) => status === 'rejected')) return false;
    } finally {
      cursor.close();
    }
    await rmdir(descriptorPath(parent, name));
    return true;
  } catch (error) {
    return error instanceof NotFound;
  }
}

/** What a directory occupies in which nothing is, in bytes. @returns undefined when something is */
export async function sizeOfEmpty(directory: number): Promise<number | undefined> {
  const cursor = await TreeCursor.at(directory, '.');
  try {
    if ((await someEntries(cursor)).length > 0) return undefined;
    const bytesInBlock = 512; // stat(2), st_blocks, whatever the file system's block size
    return (await stat(descriptorPath(cursor.fd))).blocks * bytesInBlock;
  } finally {
    cursor.close();
  }
}

/** One more than a few at most. */
async function someEntries(cursor: TreeCursor): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = [];
  for await (const entry of cursor.entries()) {
    entries.push(entry);
    if (entries.length > fewEntries) break;
  }
  return entries;
}
