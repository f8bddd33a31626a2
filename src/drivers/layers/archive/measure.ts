import type { Usage } from '../../../core/ports.ts';
import { TreeWalker } from '../../../host/linux/tree-walker.ts';
import { measureTreeNow, SizeAdder, type TreeSize } from '../../../host/linux/usage.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { compare } from './compare.ts';

/** What a tree occupies, its top included; hard links count once. */
export function measureTask({ tree }: { readonly tree: number }, context: TaskContext): Usage {
  return usageOf(measureTreeNow(tree, () => context.throwIfAborted()));
}

/** What the files occupy that have no equal, by size, times and attributes, in `before`. */
export function measureDifferenceTask(
  { before, after }: { readonly before: number; readonly after: number },
  context: TaskContext,
): Usage {
  const { changes } = compare({ type: 'trees', before, after }, 'times', () => context.throwIfAborted());
  const adder = new SizeAdder();
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
  return usageOf(adder.sum());
}

function usageOf({ bytes, inodes }: TreeSize): Usage {
  return { bytes, inodes };
}
