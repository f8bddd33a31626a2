/** Daemons and threads that walk trees are started from `dist`: before tests that are run by hand it is made anew when a source is newer. */
import { globSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { nodeBinary, repository, treeWorkerScript, varveScript } from '../../scripts/lib/paths.ts';
import { must } from '../../scripts/lib/process.ts';
import { useTreeWorker } from '../../src/host/linux/trees.ts';

useTreeWorker(treeWorkerScript);

export async function mochaGlobalSetup(): Promise<void> {
  const sources = globSync(['src/**', 'package-lock.json', 'scripts/lib/stage.ts'], { cwd: repository });
  const changed = (path: string) => statSync(join(repository, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const built = statSync(varveScript, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (sources.some(path => changed(path) > built))
    await must(nodeBinary, [join(repository, 'scripts/build.ts')]);
}
