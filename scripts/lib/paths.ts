import { homedir } from 'node:os';
import { join } from 'node:path';

export const repository = join(import.meta.dirname, '../..');
/** What the scripts keep in the checkout; git ignores it. */
export const stateDirectory = join(repository, '.varve');
/** The Node that package-lock.json names: everything of ours runs under it. */
export const nodeBinary = join(repository, 'node_modules/node/bin/node');
export const varveScript = join(repository, 'dist/cli/varve.js');
export const workerScript = new URL('worker.js', `file://${varveScript}`);
export const treeWorkerScript = new URL('tree-worker.js', `file://${varveScript}`);
/** What can be downloaded or made again, for all checkouts of this user. */
export const cacheDirectory = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'varve');
