import { join } from 'node:path';
import { repository } from '../../scripts/lib/paths.ts';
import { must, type Result } from '../../scripts/lib/process.ts';
import type { TestEngine } from './engine.ts';

const script = join(repository, 'plugin/main.ts');

/** `npm run plugin -- WORD...` against an engine; it has to succeed. */
export function pluginScript(engine: TestEngine, ...words: readonly string[]): Promise<Result> {
  return must(process.execPath, [script, ...words], { env: engine.environment, timeoutMs: 600_000 });
}

/** Builds the plugin, and the image `varve:test` in this engine, from a base that needs no registry. */
export async function buildPlugin(engine: TestEngine): Promise<void> {
  await pluginScript(engine, 'build', '--tag', 'test', '--base', 'debootstrap');
}
