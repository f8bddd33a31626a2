import { closeSync } from 'node:fs';
import type { Usage } from '../../core/ports.ts';
import { FailedPrecondition, NotFound } from '../../errors/errors.ts';
import { nextEntries } from './directory-entries.ts';
import { directoryFlags, openat } from './file-calls.ts';
import type { FileStatus } from './file-status.ts';
import { check } from './native.ts';
import { TreeWalker } from './tree-walker.ts';

export interface TreeSize extends Usage {
  /** Sum of the lengths of the files, holes included. */
  readonly apparentBytes: number;
}

/**
 * Adds up what a tree occupies, its top included, on this mount only. Hard links count once; what disappears
 * meanwhile does not count. It is a row of synchronous calls, for worker threads.
 * @param directory is opened anew, since it is read from where a descriptor stands
 * @param throwIfAborted is asked often
 * @throws Aborted when a directory is moved meanwhile
 */
export function measureTreeNow(directory: number, throwIfAborted: () => void): TreeSize {
  const here = Buffer.from('.');
  const top = check(openat(directory, here, directoryFlags), 'open the directory to measure');
  const walker = new TreeWalker(top);
  const size = new SizeAdder();
  try {
    size.add(walker.here());
    const left = [measureEntries(walker, size, throwIfAborted)];
    for (let names = left.at(-1); names !== undefined; names = left.at(-1)) {
      const name = names.pop();
      if (name === undefined) {
        left.pop();
        walker.leave();
      } else if (entered(walker, name)) left.push(measureEntries(walker, size, throwIfAborted));
    }
  } finally {
    walker.close();
    closeSync(top);
  }
  return size.sum();
}

/** @returns the directories among the entries */
function measureEntries(walker: TreeWalker, size: SizeAdder, throwIfAborted: () => void): string[] {
  const directories: string[] = [];
  for (let entries = nextEntries(walker.fd); entries !== undefined; entries = nextEntries(walker.fd)) {
    throwIfAborted();
    for (const { name, directory } of entries) {
      const status = walker.find(name);
      if (status === undefined) continue;
      size.add(status);
      if (directory) directories.push(name);
    }
  }
  throwIfAborted();
  return directories;
}

/** False for what is gone, was exchanged for a link, or is another mount by now. */
function entered(walker: TreeWalker, name: string): boolean {
  try {
    walker.enter(name);
    return true;
  } catch (error) {
    if (error instanceof NotFound || error instanceof FailedPrecondition) return false;
    throw error;
  }
}

/** Adds up files, those with several names once. */
export class SizeAdder {
  #blocks = 0;
  #inodes = 0;
  #apparentBytes = 0;
  readonly #linked = new Set<string>();

  add(file: FileStatus): void {
    if (file.type !== 'directory' && file.nlink > 1) {
      const key = `${file.dev}:${file.ino}`;
      if (this.#linked.has(key)) return;
      this.#linked.add(key);
    }
    this.#blocks += file.blocks;
    this.#inodes += 1;
    if (file.type === 'file') this.#apparentBytes += file.size;
  }

  sum(): TreeSize {
    const bytesInBlock = 512; // stat(2), st_blocks, whatever the file system's block size
    return {
      bytes: this.#blocks * bytesInBlock,
      inodes: this.#inodes,
      apparentBytes: this.#apparentBytes,
    };
  }
}
