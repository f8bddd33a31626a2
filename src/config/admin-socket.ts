import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './schema.ts';

/**
 * The admin socket of the daemon that runs on this host: that of the configuration, or where only a managed plugin
 * runs, the one that it keeps below its root.
 */
export function findAdminSocket({ adminSocket, root }: Config): string {
  const ofPlugin = join(root, 'run/varve.sock');
  return !existsSync(adminSocket) && existsSync(ofPlugin) ? ofPlugin : adminSocket;
}
