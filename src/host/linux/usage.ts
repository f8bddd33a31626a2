import type { Stats } from 'node:fs';
import { lstat, stat } from 'node:fs/promises';
import type { Usage } from '../../core/ports.ts';
import { Aborted, FailedPrecondition, NotFound } from '../../errors/errors.ts';
import { errorCode } from '../../errors/from-errno.ts';
import { descriptorPath } from './safe-path.ts';
import { TreeCursor } from './tree-cursor.ts';

/** Calls that one walk keeps in libuv's pool, which the requests share. */
const filesAtOnce = 4;

export interface TreeSize extends Usage {
  /** Sum of the lengths of the files, holes included. */
  readonly apparentBytes: number;
}

/**
 * Adds up what a tree occupies, its top included, on this mount only. Hard links count once; what disappears
 * meanwhile does not count. @throws Aborted when the signal fires or a directory is moved
 */
export async function measureTree(parent: number, name: string, signal: AbortSignal): Promise<TreeSize> {
  const size = new Adder();
  const cursor = await TreeCursor.at(parent, name);
  try {
    size.add(await stat(descriptorPath(cursor.fd)));
    const children = [await measureEntries(cursor, size, signal)];
    for (let here = children.at(-1); here !== undefined; here = children.at(-1)) {
      const child = here.pop();
      if (child === undefined) {
        children.pop();
        if (cursor.depth > 0) await cursor.leave();
      } else if (await unlessGone(() => cursor.enter(child).then(() => true))) {
        children.push(await measureEntries(cursor, size, signal));
      }
    }
  } finally {
    cursor.close();
  }
  return size;
}

/** @returns the directories among the entries */
async function measureEntries(cursor: TreeCursor, size: Adder, signal: AbortSignal): Promise<Buffer[]> {
  const directories: Buffer[] = [];
  let batch: Buffer[] = [];
  const measureBatch = async () => {
    if (signal.aborted) throw new Aborted('the measurement was cancelled');
    const found = await Promise.all(batch.map(name => unlessGone(() => lstat(cursor.pathOf(name)))));
    for (const entry of found) if (entry) size.add(entry);
    batch = [];
  };
  for await (const entry of cursor.entries()) {
    if (entry.directory) directories.push(entry.name);
    batch.push(entry.name);
    if (batch.length === filesAtOnce) await measureBatch();
  }
  await measureBatch();
  return directories;
}

class Adder implements TreeSize {
  bytes = 0;
  inodes = 0;
  apparentBytes = 0;
  readonly #linked = new Set<string>();

  add(file: Stats): void {
    if (!file.isDirectory() && file.nlink > 1) {
      const key = `${file.dev}:${file.ino}`;
      if (this.#linked.has(key)) return;
      this.#linked.add(key);
    }
    const bytesInBlock = 512; // stat(2), st_blocks, whatever the file system's block size
    this.bytes += file.blocks * bytesInBlock;
    this.inodes += 1;
    if (file.isFile()) this.apparentBytes += file.size;
  }
}

/** Undefined for what is gone, was exchanged for a link, or is another mount by now. */
async function unlessGone<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof NotFound || error instanceof FailedPrecondition) return undefined;
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
