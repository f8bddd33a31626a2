import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { repository, varveScript } from './lib/paths.ts';
import { run } from './lib/process.ts';

// A file that was renamed in src must not live on in dist.
await rm(join(repository, 'dist'), { recursive: true, force: true });
const compiled = await run('tsc', ['--project', 'tsconfig.build.json'], { cwd: repository });
process.stdout.write(compiled.stdout);
process.stderr.write(compiled.stderr);
process.exitCode = compiled.exitCode ?? 1;
if (compiled.exitCode === 0) await chmod(varveScript, 0o755);
