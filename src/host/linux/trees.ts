/**
 * What walks whole trees, in a worker thread: one message for a tree, where a call of libuv's pool for each file costs
 * more than the file.
 */
import { extname } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { WorkerPool } from '../../lib/worker-pool.ts';
import { removeTreeNow } from './remove-tree.ts';
import { removeSmallTree, sizeOfEmpty } from './small-trees.ts';
import type { TreeSize } from './usage.ts';

/** In the bundle both are .js files, side by side. */
const script = new URL(`./tree-worker${extname(import.meta.url)}`, import.meta.url);
/** Each takes some 20 MB. More than processors, for a dead network file system keeps the one that walks it. */
const walksAtOnce = 8;
const idleMs = 10_000;
let workers = new WorkerPool(script, { size: walksAtOnce, idleMs });

/** Takes another program for the threads, before the first starts: a bundle starts in a fraction of the time that sources take. */
export function useTreeWorker(program: URL): void {
  workers = new WorkerPool(program, { size: walksAtOnce, idleMs });
}

/**
 * Deletes `name` in an open directory with all that is below it; a missing one is fine. Links are deleted, not
 * followed; immutable and append-only files too.
 * @param parent stays open meanwhile
 * @throws FailedPrecondition, before anything is deleted, when a mount stands in the tree; and when somebody
 * keeps writing to it; Aborted when a directory is moved meanwhile
 */
export async function removeTree(parent: number, name: string): Promise<void> {
  // A thread that unpacks archives may wait.
  if (!isMainThread) removeTreeNow(parent, name, () => {});
  else if (!(await removeSmallTree(parent, name))) await workers.run<void>('remove', { parent, name });
}

/**
 * Adds up what a tree occupies, its top included, on this mount only. Hard links count once; what disappears
 * meanwhile does not count. @throws Aborted when the signal fires or a directory is moved
 */
export async function measureTree(directory: number, signal: AbortSignal): Promise<TreeSize> {
  const bytes = await sizeOfEmpty(directory);
  if (bytes !== undefined && !signal.aborted) return { bytes, inodes: 1, apparentBytes: 0 };
  return await workers.run<TreeSize>('measure', { directory }, { signal });
}
