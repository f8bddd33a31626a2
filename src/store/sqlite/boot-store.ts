import { rm } from 'node:fs/promises';
import type { ObjectStore } from '../../core/ports.ts';
import { FailedPrecondition } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import { openSqliteStore } from './open.ts';

const bootKey = 'boot';

/**
 * Opens the store of what a reboot clears. It is not flushed to the disk, and one of an earlier boot, or one
 * that cannot be read, is thrown away: what it held is only ever a hint beside the mount tables.
 */
export async function openBootStore(path: string, bootId: string): Promise<ObjectStore> {
  try {
    const store = await open(path);
    const boot = await store.get(bootKey);
    if (boot?.value === bootId) return store;
    await store.close();
  } catch (error) {
    if (!(error instanceof FailedPrecondition)) throw error;
  }
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    await step('boot-store.discard', () => rm(file, { force: true }));
  }
  const store = await open(path);
  await step('boot-store.mark', () => store.transaction([], [{ type: 'put', key: bootKey, value: bootId }]));
  return store;
}

function open(path: string): Promise<ObjectStore> {
  return openSqliteStore(path, { synchronous: 'OFF', create: true });
}
