import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { workerScript } from '../../../scripts/lib/paths.ts';
import { openLayerStore } from '../../../src/core/layers/open.ts';
import { type LayersRebuilt, rebuildLayers } from '../../../src/core/layers/rebuild.ts';
import { layerKeys } from '../../../src/core/layers/record.ts';
import type { Layers } from '../../../src/core/layers/store.ts';
import { parseLayerStoreName } from '../../../src/core/names.ts';
import type { ObjectStore } from '../../../src/core/ports.ts';
import { WorkerArchiver } from '../../../src/drivers/layers/archive/worker-archiver.ts';
import { LayerDirectory } from '../../../src/drivers/layers/directory.ts';
import type { LayerStoreIdentity } from '../../../src/drivers/layers/marker.ts';
import { openLayerDirectory } from '../../../src/drivers/layers/open.ts';
import { openOverlayDriver } from '../../../src/drivers/layers/overlay/open.ts';
import { systemClock } from '../../../src/host/linux/clock.ts';
import { LinuxDisk } from '../../../src/host/linux/disk.ts';
import { openSqliteStore } from '../../../src/store/sqlite/open.ts';
import { layerLog } from '../../support/memory-layer-world.ts';

const name = parseLayerStoreName('test');

/** Where a layer store is, and as what it is opened. */
export interface StorePlace {
  /** Holds the database `state.db` and the layers, `root`. */
  readonly directory: string;
  /** `overlay for volumes` is the driver `overlay` as volumes use it. */
  readonly driver: string;
  readonly bootId: string;
}

export interface RealStore {
  readonly store: Layers;
  /** What opening it wrote to the log. */
  readonly log: readonly string[];
  close(): Promise<void>;
}

/** Opens a layer store as the daemon does: on a disk, with its records in SQLite. */
export async function openRealStore(place: StorePlace): Promise<RealStore> {
  return await withRecords(place, async records => {
    const archiver = newArchiver();
    const disk = await openDisk(place, records, archiver, false);
    const [log, lines] = layerLog();
    const { bootId } = place;
    const store = await openLayerStore({ name, store: records, disk, clock: systemClock, bootId, log });
    const close = async () => {
      await store.close();
      await archiver.close();
      await records.close();
    };
    return { store, log: lines, close };
  });
}

/** Restores the records from the disk, as `varve state rebuild` does. */
export async function rebuildRealStore(place: StorePlace): Promise<LayersRebuilt> {
  return await withRecords(place, async records => {
    const archiver = newArchiver();
    const disk = await openDisk(place, records, archiver, true);
    const report = await rebuildLayers(name, records, disk, () => {});
    await disk.close();
    await records.close();
    return report;
  });
}

async function withRecords<T>(
  { directory }: StorePlace,
  act: (records: ObjectStore) => Promise<T>,
): Promise<T> {
  const records = await openSqliteStore(join(directory, 'state.db'), { create: true, synchronous: 'FULL' });
  try {
    return await act(records);
  } catch (error) {
    await records.close();
    throw error;
  }
}

async function openDisk(
  { directory, driver }: StorePlace,
  store: ObjectStore,
  archiver: WorkerArchiver,
  rebuild: boolean,
): Promise<LayerDirectory> {
  const parts = { disk: new LinuxDisk(), name, archiver };
  const path = join(directory, 'root');
  const options = { ...parts, store, path, newUuid: randomUUID, managed: false, rebuild };
  if (driver !== 'overlay for volumes') return await openLayerDirectory({ ...options, driver });
  await openLayerDirectory({ ...options, driver: 'overlay' });
  const identity = (await store.get(layerKeys(name).identity))?.value as LayerStoreIdentity;
  const overlay = await openOverlayDriver(path, archiver, 'volumes');
  return new LayerDirectory({ ...parts, root: path, identity, driver: overlay });
}

function newArchiver(): WorkerArchiver {
  return new WorkerArchiver(workerScript);
}
