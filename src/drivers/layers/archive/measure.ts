import type { Usage } from '../../../core/ports.ts';
import { FailedPrecondition, NotFound } from '../../../errors/errors.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { compare } from './compare.ts';
import { inode } from './compare-changes.ts';
import { TreeWalker, walkTree } from './walk.ts';

/** What a tree occupies, its top included; hard links count once. */
export function measureTask({ tree }: { readonly tree: number }, context: TaskContext): Usage {
  return sizeOf(tree, context).usage;
}

/** What the files occupy that have no equal, by size, times and attributes, in `before`. */
export function measureDifferenceTask(
  { before, after }: { readonly before: number; readonly after: number },
  context: TaskContext,
): Usage {
  const { changes } = compare({ type: 'trees', before, after }, 'times', () => context.throwIfAborted());
  const adder = new Adder();
  const walker = new TreeWalker(after);
  try {
    for (const { path, kind } of changes) {
      if (kind === 'deleted') continue;
      const slash = path.lastIndexOf('/');
      walker.goTo(path.slice(0, Math.max(0, slash)));
      const status = path === '' ? walker.here() : walker.find(path.slice(slash + 1));
      if (status) adder.add(status);
    }
  } finally {
    walker.close();
  }
  return adder.usage();
}

/** @returns also the sum of the lengths of the regular files, holes included, hard links counted once */
export function sizeOf(
  tree: number,
  context: TaskContext,
): { readonly usage: Usage; readonly length: number } {
  const adder = new Adder();
  const walker = new TreeWalker(tree);
  try {
    for (const { event, status } of walkTree(walker, isGone)) {
      if (event === 'entry') adder.add(status);
      else context.throwIfAborted();
    }
  } finally {
    walker.close();
  }
  return { usage: adder.usage(), length: adder.length };
}

/** It disappeared, became something else, or is another mount by now. */
function isGone(error: unknown): boolean {
  return error instanceof NotFound || error instanceof FailedPrecondition;
}

class Adder {
  #blocks = 0;
  #inodes = 0;
  length = 0;
  readonly #linked = new Set<string>();

  add(file: FileStatus): void {
    if (file.type !== 'directory' && file.nlink > 1) {
      const key = inode(file);
      if (this.#linked.has(key)) return;
      this.#linked.add(key);
    }
    this.#blocks += file.blocks;
    this.#inodes += 1;
    if (file.type === 'file') this.length += file.size;
  }

  usage(): Usage {
    const bytesInBlock = 512; // stat(2), st_blocks, whatever the file system's block size
    return { bytes: this.#blocks * bytesInBlock, inodes: this.#inodes };
  }
}
