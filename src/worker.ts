/** What worker threads do for the main thread: the names are those that `WorkerArchiver` calls. */
import { applyTask } from './drivers/layers/archive/apply.ts';
import { copyTask } from './drivers/layers/archive/copy.ts';
import { digestTask } from './drivers/layers/archive/digest-task.ts';
import { measureDifferenceTask, measureTask } from './drivers/layers/archive/measure.ts';
import { mergeTask } from './drivers/layers/archive/merge.ts';
import { originalTask } from './drivers/layers/archive/original.ts';
import { verifyTask } from './drivers/layers/archive/verify.ts';
import { changesTask, diffTask } from './drivers/layers/archive/write.ts';
import { writeFilesTask } from './drivers/layers/archive/write-files.ts';
import { dropUmask } from './host/linux/file-calls.ts';
import { serveTasks } from './lib/worker-pool.ts';

// Each layer entry would need one call more for the mode that the daemon's umask took from it.
dropUmask();
serveTasks({
  apply: applyTask,
  changes: changesTask,
  copy: copyTask,
  diff: diffTask,
  digest: digestTask,
  measure: measureTask,
  measureDifference: measureDifferenceTask,
  merge: mergeTask,
  original: originalTask,
  verify: verifyTask,
  writeFiles: writeFilesTask,
});
