/** Which parts a layer store is made of. */
import { randomUUID } from 'node:crypto';
import { extname } from 'node:path';
import type { Config } from './config/schema.ts';
import type { LayerImporter } from './core/layers/importer.ts';
import { openLayerStore } from './core/layers/open.ts';
import { type LayersRebuilt, rebuildLayers } from './core/layers/rebuild.ts';
import { layerKeys } from './core/layers/record.ts';
import { type LayerStoreOpener, LayerStores } from './core/layers/stores.ts';
import { parseLayerStoreName } from './core/names.ts';
import type { ObjectStore } from './core/ports.ts';
import { WorkerArchiver } from './drivers/layers/archive/worker-archiver.ts';
import { openLayerDirectory } from './drivers/layers/open.ts';
import { messageOf } from './errors/errors.ts';
import { bootId } from './host/linux/boot-id.ts';
import { systemClock } from './host/linux/clock.ts';
import { LinuxDisk } from './host/linux/disk.ts';
import type { Cleanup } from './lib/cleanup.ts';
import type { RootLogger } from './lib/log.ts';

/** Restores the records of every layer store that is there. */
export async function rebuildLayerStores(
  config: Config,
  store: ObjectStore,
  cleanup: Cleanup,
  onProgress: (message: string) => void,
): Promise<readonly LayersRebuilt[]> {
  const archiver = newArchiver(cleanup);
  const reports = [];
  for (const [rawName, { path, driver }] of Object.entries(config.layerStores)) {
    if (!(await new LinuxDisk().isDirectory(path))) continue;
    const name = parseLayerStoreName(rawName);
    const disk = await openLayerDirectory({
      ...layerParts(config, store, archiver),
      name,
      path,
      driver,
      rebuild: true,
    });
    cleanup.defer(() => disk.close());
    reports.push(await rebuildLayers(name, store, disk, onProgress));
  }
  return reports;
}

/** The layer stores of the configuration; each is opened when it is first asked for. */
export function composeLayerStores(
  config: Config,
  store: ObjectStore,
  log: RootLogger,
  cleanup: Cleanup,
): LayerStores {
  const archiver = newArchiver(cleanup);
  const ofEngines = new Set(
    [...Object.values(config.snapshotters), ...Object.values(config.drivers)].map(each => each.layerStore),
  );
  const openerOf = (rawName: string, path: string, driver: string): LayerStoreOpener => {
    const name = parseLayerStoreName(rawName);
    return {
      isMade: async () => (await store.get(layerKeys(name).identity)) !== undefined,
      open: async () => {
        const parts = { ...layerParts(config, store, archiver), name, path, driver, rebuild: false };
        const disk = await openLayerDirectory(parts);
        const host = { clock: systemClock, bootId: await bootId(), log: log.child({ part: 'layers' }) };
        return await openLayerStore({ name, store, disk, ...host, isOfEngine: ofEngines.has(rawName) });
      },
    };
  };
  const openers = Object.entries(config.layerStores).map(
    ([name, { path, driver }]) => [name, openerOf(name, path, driver)] as const,
  );
  const stores = new LayerStores(new Map(openers));
  cleanup.defer(() => stores.close());
  return stores;
}

/** Deletes what no layer needs any more, in every store that is there. */
export async function tidyLayerStores(
  stores: LayerStores,
  importer: LayerImporter,
  log: RootLogger,
): Promise<void> {
  for (const name of await stores.made()) {
    try {
      const store = await stores.get(name);
      await importer.removeLeftovers(name);
      await store.cleanup();
      await store.syncLeft();
    } catch (error) {
      log.warn(`layer store ${name} cannot be tidied: ${messageOf(error)}`);
    }
  }
}

function layerParts({ managed }: Config, store: ObjectStore, archiver: WorkerArchiver) {
  return { disk: new LinuxDisk(), store, archiver, newUuid: randomUUID, managed };
}

/** Its workers are started at need. */
function newArchiver(cleanup: Cleanup): WorkerArchiver {
  // In the bundle both are .js files, side by side.
  const script = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);
  const archiver = new WorkerArchiver(script);
  cleanup.defer(() => archiver.close());
  return archiver;
}
