import type { Config, DriverConfig, SnapshotterConfig } from './config/schema.ts';
import type { ContainerLimits } from './core/layers/container-limits.ts';
import type { LayerImporter } from './core/layers/importer.ts';
import type { LayerInspector } from './core/layers/inspector.ts';
import type { Copies } from './core/volumes/copies.ts';
import type { Driver } from './core/volumes/driver.ts';
import type { Inventory } from './core/volumes/inventory.ts';
import type { Keeper } from './core/volumes/keeper.ts';
import type { Meter } from './core/volumes/meter.ts';
import type { VolumeService } from './core/volumes/service.ts';
import type { StateParts } from './core/volumes/state.ts';
import type { Trash } from './core/volumes/trash.ts';
import type { StatusView } from './core/volumes/view.ts';
import { messageOf } from './errors/errors.ts';
import type { Graphs } from './graphs.ts';
import { serviceManager } from './host/linux/notify.ts';
import { peerPid } from './host/linux/peer.ts';
import { Cleanup } from './lib/cleanup.ts';
import { gate } from './lib/fault.ts';
import type { RootLogger } from './lib/log.ts';
import { repeat } from './lib/repeat.ts';
import { version } from './lib/version.ts';
import { adminApp } from './servers/admin/admin.ts';
import type { ContainerdParts } from './servers/containerd/parts.ts';
import { pluginApp } from './servers/docker/volume-driver.ts';
import { snapshotterServer } from './snapshotters.ts';
import { Sockets } from './sockets.ts';

/** What is served, and what works behind it. */
export interface Faces {
  readonly config: Config;
  readonly log: RootLogger;
  readonly drivers: readonly Driver[];
  readonly copies: Copies;
  readonly service: VolumeService;
  readonly inventory: Inventory;
  readonly meter: Meter;
  readonly keeper: Keeper;
  readonly trash: Trash;
  readonly state: StateParts;
  readonly layers: LayerInspector;
  readonly importer: LayerImporter;
  readonly snapshotters: readonly ContainerdParts[];
  readonly graphs: Graphs;
  /** Deletes what no layer needs any more. */
  readonly tidyLayers: () => Promise<void>;
  /** Undefined when no engine is to be asked. */
  readonly containerLimits: ContainerLimits | undefined;
}

/**
 * Runs `start`, which says when requests are answered, and waits for SIGTERM or SIGINT; then undoes what it put into
 * the cleanup: requests under way are answered first. A second signal ends the process at once.
 */
export async function untilSignal(
  log: RootLogger,
  start: (cleanup: Cleanup, onReady: () => void) => Promise<void>,
): Promise<void> {
  const cleanup = new Cleanup();
  const manager = serviceManager(process.env, process.pid, log);
  cleanup.defer(() => manager.close());
  const signalled = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      void manager.stopping();
      signalled.resolve(signal);
      process.once(signal, () => process.exit(1));
    });
  }
  try {
    await start(cleanup, () => {
      log.info(`varve ${version} is ready`);
      void manager.ready();
    });
    log.info(`${await signalled.promise}: stopping`);
  } finally {
    await cleanup.close();
  }
}

/**
 * Binds the sockets, then looks at the disks and mounts while requests wait: an engine that finds no socket waits 15 seconds
 * for each volume, and takes an error for a volume that is gone.
 */
export async function serve(faces: Faces, cleanup: Cleanup, onReady: () => void): Promise<void> {
  const { config, log, keeper, copies, meter, trash } = faces;
  const ready = Promise.withResolvers<void>();
  const work = new Cleanup();
  cleanup.defer(() => work.close());
  let lookNow = (): void => {};

  const sockets = new Sockets();
  cleanup.defer(() => sockets.close());
  await bind(faces, sockets, { ready: ready.promise, onActivate: () => lookNow() });

  // Before the servers drain: a copy goes on at the next start.
  cleanup.defer(() => copies.cancelAll());
  await gate('daemon.load');
  await keeper.observe();
  ready.resolve();
  onReady();

  const warn = (what: string) => (error: unknown) => log.warn(`${what}: ${messageOf(error)}`);
  await keeper.resume();
  const keeping = repeat(config.intervals.reconcileSeconds * 1000, () => keeper.tick(), warn('keeper'));
  work.defer(() => keeping.stop());
  lookNow = keeping.nudge;
  const emptying = trash.start(config.intervals.reconcileSeconds * 1000);
  work.defer(() => emptying.stop());
  const tidying = repeat(config.intervals.reconcileSeconds * 1000, faces.tidyLayers, warn('layers'));
  work.defer(() => tidying.stop());
  faces.graphs.onGarbage(tidying.nudge);
  const limiting = repeat(
    config.intervals.reconcileSeconds * 1000,
    async signal => faces.containerLimits?.tick(signal),
    warn('containers'),
  );
  work.defer(() => limiting.stop());
  const measuring = repeat(
    config.intervals.usageSeconds * 1000,
    signal => meter.measureStale(signal),
    warn('meter'),
  );
  work.defer(() => measuring.stop());
}

interface Binding {
  readonly ready: Promise<void>;
  /** An engine has started. */
  readonly onActivate: () => void;
}

/** Serves every face on its sockets. */
async function bind(faces: Faces, sockets: Sockets, { ready, onActivate }: Binding): Promise<void> {
  const { config, log, state } = faces;
  const addresses = new Map<string, string[]>();
  for (const driver of faces.drivers) {
    const parts = {
      ...faces,
      driver,
      ready,
      peerPid,
      onActivate,
      log: log.child({ part: driver.name }),
      debug: config.debug,
      managed: config.managed,
      onPeer: (peer: number | undefined) => state.publisher.noticeEngine(peer),
    };
    const app = pluginApp({ ...parts, graph: faces.graphs.of(driver.name) });
    const { socket, tcp } = config.drivers[driver.name] as DriverConfig;
    const address = await sockets.serveHttp(app, driver.name, socket);
    // Without layers: an engine elsewhere does not see our mounts, and nobody there should read images and containers.
    const remote = tcp === undefined ? [] : [await sockets.serveTcp(pluginApp(parts), tcp)];
    addresses.set(driver.name, [address, ...remote]);
  }
  for (const snapshotter of faces.snapshotters) {
    const server = snapshotterServer(snapshotter, { ready, debug: config.debug });
    const { socket } = config.snapshotters[snapshotter.name] as SnapshotterConfig;
    const name = snapshotterSocket(snapshotter.name);
    addresses.set(name, [await sockets.serveGrpc(server, name, socket)]);
  }
  const admin = adminApp({ ...faces, status: statusOf(faces, addresses), ready });
  await sockets.serveHttp(admin, 'admin', config.adminSocket);
  sockets.requireNoneLeft();
}

/** What systemd calls the socket of a snapshotter: a driver may have the same name. */
function snapshotterSocket(name: string): string {
  return `snapshotter/${name}`;
}

function statusOf(faces: Faces, addresses: ReadonlyMap<string, readonly string[]>): () => StatusView {
  const { config, drivers, snapshotters, inventory, keeper } = faces;
  const startedAt = new Date().toISOString();
  return () => {
    const volumes = inventory.volumes();
    const pools = inventory.pools();
    const { version: engineVersion, error } = keeper.engineState;
    const sick = volumes.filter(({ health }) => health !== 'ok');
    return {
      version,
      pid: process.pid,
      startedAt,
      root: config.root,
      managed: config.managed,
      drivers: drivers.map(({ name, pool }) => ({ name, pool, addresses: addresses.get(name) ?? [] })),
      snapshotters: snapshotters.map(({ name }) => ({
        name,
        layerStore: (config.snapshotters[name] as SnapshotterConfig).layerStore,
        addresses: addresses.get(snapshotterSocket(name)) ?? [],
      })),
      engine: { address: config.engine, reachable: error === null, version: engineVersion, error },
      pools,
      volumes: {
        total: volumes.length,
        mounted: volumes.filter(({ mountPoint }) => mountPoint !== '').length,
        unhealthy: sick.length,
      },
      warnings: [
        ...pools.filter(({ health }) => health !== 'ok').map(({ name, health }) => `pool ${name}: ${health}`),
        ...sick.map(({ name, health }) => `volume ${name}: ${health}`),
      ],
    };
  };
}
