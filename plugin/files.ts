import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { repository, stateDirectory } from '../scripts/lib/paths.ts';
import { FailedPrecondition } from '../src/errors/errors.ts';

export const manifest = join(repository, 'config.json');
/** What is built: {@link manifest} and `rootfs`, as `docker plugin create` wants them. */
export const pluginDirectory = join(stateDirectory, 'plugin');

/** @throws FailedPrecondition when nothing is built */
export function requireBuilt(): void {
  if (existsSync(pluginDirectory)) return;
  throw new FailedPrecondition('no plugin is built yet; run npm run plugin -- build first');
}

/** @throws FailedPrecondition */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new FailedPrecondition(
    'the files of the plugin have to belong to root; run this as root: sudo npm run plugin',
  );
}
