import { rename } from 'node:fs/promises';
import type { ObjectStore } from '../../core/ports.ts';
import { FailedPrecondition, messageOf, NotFound } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import { openSqliteStore } from './open.ts';

/**
 * Moves a database that cannot be used out of the way, its log files with it; nothing is deleted. A database that
 * can be opened and passes the check, or is missing, stays as it is.
 */
export async function setAsideDatabase(
  path: string,
  check: (store: ObjectStore) => Promise<void>,
  onProgress: (message: string) => void,
): Promise<void> {
  try {
    const store = await openSqliteStore(path, { synchronous: 'FULL', create: false });
    await check(store).finally(() => store.close());
  } catch (error) {
    if (error instanceof NotFound) return;
    if (!(error instanceof FailedPrecondition)) throw error;
    const kept = `${path}.damaged-${new Date().toISOString().replaceAll(':', '')}`;
    onProgress(`${messageOf(error)}; it is kept as ${kept}`);
    for (const suffix of ['', '-wal', '-shm']) {
      await step('store.set-aside', () => renameIfThere(`${path}${suffix}`, `${kept}${suffix}`));
    }
  }
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
