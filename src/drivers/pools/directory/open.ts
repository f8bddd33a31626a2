import type { PoolName } from '../../../core/names.ts';
import type { Disk, ObjectStore } from '../../../core/ports.ts';
import { keys, type PoolRecord } from '../../../core/volumes/record.ts';
import { step } from '../../../lib/fault.ts';
import { DirectoryPool } from './directory-pool.ts';
import { identifyPool } from './marker.ts';

export interface OpenOptions {
  readonly disk: Disk;
  readonly store: ObjectStore;
  readonly name: PoolName;
  readonly path: string;
  readonly newUuid: () => string;
  /** The id of the root that the records belong to. */
  readonly owner: string;
  /** Whether the records are being restored: then a pool that they do not know is taken as it is. */
  readonly rebuild: boolean;
}

/**
 * Opens a pool and records its identity. A pool that the records know is not looked at: its disk may come
 * later. @throws FailedPrecondition when the records cannot be those of this pool
 */
export async function openDirectoryPool(options: OpenOptions): Promise<DirectoryPool> {
  const { disk, store, name, path } = options;
  const stored = await store.get(keys.pool(name));
  const recorded = stored?.value as PoolRecord | undefined;
  const identity = await identifyPool(disk, { ...options, recorded: recorded?.uuid });
  const record: PoolRecord = { driver: 'directory', uuid: identity.uuid, path };
  if (recorded?.path !== path) {
    await step('pool.record', () =>
      store.transaction([], [{ type: 'put', key: keys.pool(name), value: record }]),
    );
  }
  return new DirectoryPool(disk, identity);
}
