/**
 * The composition root: which parts there are, and who gets what. It alone sees every folder.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { Config } from './config/schema.ts';
import { checkLayerRecords } from './core/layers/catalog.ts';
import { LayerImporter } from './core/layers/importer.ts';
import { LayerInspector } from './core/layers/inspector.ts';
import {
  type DriverName,
  type PoolName,
  parseDriverName,
  parseLayerStoreName,
  parsePoolName,
} from './core/names.ts';
import type { ObjectStore } from './core/ports.ts';
import { Catalog, checkRecords } from './core/volumes/catalog.ts';
import { Copies } from './core/volumes/copies.ts';
import { Creator } from './core/volumes/creator.ts';
import type { Driver } from './core/volumes/driver.ts';
import { requireFormerRoot } from './core/volumes/former-root.ts';
import { Inventory } from './core/volumes/inventory.ts';
import { Keeper } from './core/volumes/keeper.ts';
import { Meter } from './core/volumes/meter.ts';
import { Pools } from './core/volumes/pools.ts';
import { Publisher } from './core/volumes/publisher.ts';
import { type RebuildReport, rebuildRecords } from './core/volumes/rebuild.ts';
import { keys } from './core/volumes/record.ts';
import { VolumeService } from './core/volumes/service.ts';
import { Trash } from './core/volumes/trash.ts';
import { type Faces, serve, untilSignal } from './daemon.ts';
import { requireMarker } from './drivers/pools/directory/marker.ts';
import { openDirectoryPool } from './drivers/pools/directory/open.ts';
import { composeLayerEngines } from './engines.ts';
import { FailedPrecondition } from './errors/errors.ts';
import { composeGraphs } from './graphs.ts';
import { bootId } from './host/linux/boot-id.ts';
import { systemClock } from './host/linux/clock.ts';
import { LinuxDisk } from './host/linux/disk.ts';
import { DockerEngine } from './host/linux/engine.ts';
import { lockFile } from './host/linux/flock.ts';
import { LinuxMounter } from './host/linux/mounter.ts';
import { composeLayerStores, rebuildLayerStores, tidyLayerStores } from './layers.ts';
import { Cleanup } from './lib/cleanup.ts';
import { createLogger, type RootLogger } from './lib/log.ts';
import { composeContainerLimits, composeSnapshotters } from './snapshotters.ts';
import { openBootStore } from './store/sqlite/boot-store.ts';
import { openSqliteStore } from './store/sqlite/open.ts';
import { setAsideDatabase } from './store/sqlite/set-aside.ts';

export { examine as examineHost } from './doctor.ts';
export { checkEngines, setUpEngine } from './engines.ts';

/** Runs the daemon until a signal ends it. @throws FailedPrecondition, with the cure, before anything is served */
export async function runDaemon(config: Config): Promise<void> {
  requireHostProcesses();
  keepFilesPrivate();
  const log = createLogger(config.log, config.managed);
  await untilSignal(log, async (cleanup, onReady) => {
    await serve(await composeDaemon(config, log, cleanup), cleanup, onReady);
  });
}

/**
 * Restores the records from the pools' disks, into the database there is, or into a new one when that cannot
 * be used; the old file is kept. @throws FailedPrecondition while a daemon runs
 */
export async function rebuildState(
  config: Config,
  onProgress: (message: string) => void,
): Promise<RebuildReport> {
  keepFilesPrivate();
  const cleanup = new Cleanup();
  try {
    cleanup.defer(await lockFile(`${config.root}/lock`));
    await requireDisks(config);
    const check = async (store: ObjectStore) => {
      await checkRecords(store);
      await checkLayerRecords(store, Object.keys(config.layerStores).map(parseLayerStoreName));
    };
    await setAsideDatabase(stateFile(config), check, onProgress);
    const store = await openSqliteStore(stateFile(config), { synchronous: 'FULL', create: true });
    cleanup.defer(() => store.close());
    const pools = await openPools(config, store, { rebuild: true });
    const layers = await rebuildLayerStores(config, store, cleanup, onProgress);
    const bootStore = await openBootStore(`${config.run}/consumers.db`, await bootId());
    cleanup.defer(() => bootStore.close());
    const catalog = new Catalog(store, bootStore);
    await catalog.load();
    return sumOf([await rebuildRecords(catalog, pools, onProgress), ...layers]);
  } finally {
    await cleanup.close();
  }
}

function sumOf(reports: readonly RebuildReport[]): RebuildReport {
  return {
    restored: reports.reduce((sum, { restored }) => sum + restored, 0),
    kept: reports.reduce((sum, { kept }) => sum + kept, 0),
    damaged: reports.flatMap(({ damaged }) => damaged),
  };
}

/** The first process of a pid namespace sees its own only. @throws FailedPrecondition */
function requireHostProcesses(): void {
  if (process.pid !== 1) return;
  throw new FailedPrecondition(
    'varve runs in a pid namespace of its own, and could not tell who uses a volume; ' +
      'give it that of the host (docker run --pid host)',
  );
}

/** Nobody but root may look below the root: a container can leave a setuid program in its volume. */
function keepFilesPrivate(): void {
  process.umask(0o077);
}

async function composeDaemon(config: Config, log: RootLogger, cleanup: Cleanup): Promise<Faces> {
  cleanup.defer(await lockFile(`${config.root}/lock`));
  const store = await openSqliteStore(stateFile(config), { synchronous: 'FULL', create: true });
  cleanup.defer(() => store.close());
  const pools = await openPools(config, store, { rebuild: false });
  const bootStore = await openBootStore(`${config.run}/consumers.db`, await bootId());
  cleanup.defer(() => bootStore.close());
  const disk = new LinuxDisk();
  const mountPoints = await disk.open(config.mountPoints, { make: true });
  cleanup.defer(() => mountPoints.close());

  const clock = systemClock;
  const drivers = driversOf(config);
  const engine = config.engine === 'none' ? undefined : new DockerEngine(config.engine);
  const catalog = new Catalog(store, bootStore);
  const publisher = new Publisher(new LinuxMounter(), mountPoints, { managed: config.managed });
  const trash = new Trash({ catalog, pools, publisher, log: log.child({ part: 'trash' }) });
  const copies = new Copies(log.child({ part: 'copies' }));
  const creator = new Creator({
    ...{ catalog, pools, publisher, copies, disk, clock, trash },
    ...{ root: config.root, hostPaths: !config.managed },
  });
  const service = new VolumeService({
    catalog,
    pools,
    publisher,
    copies,
    creator,
    trash,
    clock,
    log: log.child({ part: 'volumes' }),
  });
  const inventory = new Inventory(service, pools);
  const meter = new Meter(catalog, pools, clock, log.child({ part: 'meter' }));
  const keeper = new Keeper({
    service,
    catalog,
    pools,
    publisher,
    creator,
    inventory,
    drivers,
    engine,
    clock,
    log: log.child({ part: 'keeper' }),
  });
  const layerStores = composeLayerStores(config, store, log, cleanup);
  const layers = new LayerInspector(layerStores, composeLayerEngines(config));
  const snapshotters = composeSnapshotters(config, layerStores, log, cleanup);
  const containerLimits = composeContainerLimits(config, layerStores, engine, log);
  const importer = new LayerImporter({ inspector: layers, newUuid: randomUUID, sha256 });
  await catalog.load();
  if (config.managed) await requireFormerRoot(catalog, publisher);
  const state = { store, catalog, pools, publisher, service, clock };
  const graphs = await composeGraphs(config, layerStores, bootStore, log, cleanup);
  const tidyLayers = async () => {
    await graphs.tidy();
    await tidyLayerStores(layerStores, importer, log);
  };
  return {
    ...{ config, log, drivers, copies, service, inventory, meter, keeper, trash, state },
    ...{ layers, importer, snapshotters, graphs, tidyLayers, containerLimits },
  };
}

/** @throws Unavailable when the disk of a pool is not there; a pool in a root that is lost may be made anew */
async function requireDisks(config: Config): Promise<void> {
  const disk = new LinuxDisk();
  for (const [name, { path }] of Object.entries(config.pools)) {
    const isLost = path.startsWith(`${config.root}/`) && !(await disk.isDirectory(path));
    if (!isLost) await requireMarker(disk, parsePoolName(name), path);
  }
}

async function openPools(
  config: Config,
  store: ObjectStore,
  { rebuild }: { rebuild: boolean },
): Promise<Pools> {
  const disk = new LinuxDisk();
  const owner = await ownerOf(store);
  const pools = [];
  for (const [name, { path }] of Object.entries(config.pools)) {
    pools.push(
      await openDirectoryPool({
        disk,
        store,
        name: parsePoolName(name),
        path,
        owner,
        newUuid: randomUUID,
        rebuild,
      }),
    );
  }
  return new Pools(pools);
}

/** The id of this root, made at first need. */
async function ownerOf(store: ObjectStore): Promise<string> {
  const known = await store.get(keys.owner);
  if (known !== undefined) return known.value as string;
  const owner = randomUUID();
  await store.transaction([], [{ type: 'put', key: keys.owner, value: owner }]);
  return owner;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function driversOf(config: Config): readonly Driver[] {
  return Object.entries(config.drivers).map(([name, { pool, options }]) => ({
    name: parseDriverName(name) satisfies DriverName,
    pool: pool as PoolName,
    options,
  }));
}

function stateFile(config: Config): string {
  return `${config.root}/state.db`;
}
