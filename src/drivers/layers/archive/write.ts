/** Tasks that say what changed in a layer: as an archive of the OCI image spec (layer.md), or as a list. */
import type { LayerChange } from '../../../core/layers/layer-store.ts';
import { bytesOf, TreeWalker } from '../../../host/linux/tree-walker.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { TarWriter } from '../../../tar/writer.ts';
import { type ComparisonArgs, compare } from './compare.ts';
import { type Change, sortKey } from './compare-changes.ts';
import { PipeWriter } from './pipe-writer.ts';
import { EntryWriter } from './write-entry.ts';

/**
 * Writes an archive of all changes: the same bytes each time. Sockets are left out, as every engine does: a process
 * makes them anew.
 * @param args `sink` a blocking descriptor, which stays the caller's
 * @throws as {@link compare} does; Aborted when the reader closes its end, or a file changes while it is read
 */
export function diffTask(
  { comparison, sink }: { readonly comparison: ComparisonArgs; readonly sink: number },
  context: TaskContext,
): void {
  const { changes, after, form } = compare(comparison, 'content', () => context.throwIfAborted());
  const output = new PipeWriter(sink, context);
  const walker = new TreeWalker(after);
  try {
    const tar = new TarWriter(output);
    const entries = new EntryWriter(tar, walker, form);
    for (const change of inWritingOrder(changes)) entries.write(change);
    tar.finish();
  } finally {
    walker.close();
  }
  output.flush();
}

export function changesTask(
  { comparison }: { readonly comparison: ComparisonArgs },
  context: TaskContext,
): readonly LayerChange[] {
  const { changes } = compare(comparison, 'content', () => context.throwIfAborted());
  return changes.map(({ path, kind, size }) => ({
    path: `/${bytesOf(path).toString()}`,
    kind,
    bytes: kind === 'deleted' ? 0 : size,
  }));
}

/** Whiteouts before their siblings: who unpacks as it comes then never deletes what it has just made. */
function inWritingOrder(changes: readonly Change[]): readonly Change[] {
  const key = ({ path, kind }: Change): string => {
    if (kind !== 'deleted') return sortKey(path);
    const name = path.lastIndexOf('/') + 1;
    return sortKey(`${path.slice(0, name)}\0${path.slice(name)}`);
  };
  return changes
    .map(change => [key(change), change] as const)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([, change]) => change);
}
