/** What the worker threads of trees.ts run. */
import { serveTasks, type TaskContext } from '../../lib/worker-pool.ts';
import { removeTreeNow } from './remove-tree.ts';
import { measureTreeNow } from './usage.ts';

serveTasks({
  measure: ({ directory }: { readonly directory: number }, context: TaskContext) =>
    measureTreeNow(directory, () => context.throwIfAborted()),
  remove: ({ parent, name }: { readonly parent: number; readonly name: string }, context: TaskContext) =>
    removeTreeNow(parent, name, () => context.throwIfAborted()),
});
