import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Express } from 'express';
import type { Config, DriverConfig, TcpConfig } from './config/schema.ts';
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
import { InvalidArgument, messageOf } from './errors/errors.ts';
import { activatedSockets, listenFd, listenTcp, listenUnix } from './host/linux/listen.ts';
import { serviceManager } from './host/linux/notify.ts';
import { peerPid } from './host/linux/peer.ts';
import { Cleanup } from './lib/cleanup.ts';
import { gate } from './lib/fault.ts';
import type { RootLogger } from './lib/log.ts';
import { repeat } from './lib/repeat.ts';
import { version } from './lib/version.ts';
import { adminApp } from './servers/admin/admin.ts';
import { pluginApp } from './servers/docker/volume-driver.ts';
import { drain, httpServer } from './servers/http.ts';

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
  /** Deletes what no layer needs any more. */
  readonly tidyLayers: () => Promise<void>;
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
  const { config, log, keeper, copies, meter, trash, state } = faces;
  const ready = Promise.withResolvers<void>();
  const work = new Cleanup();
  cleanup.defer(() => work.close());
  let lookNow = (): void => {};

  const servers: (() => Promise<void>)[] = [];
  cleanup.defer(async () => {
    await Promise.all(servers.map(close => close()));
  });
  const passed = new Map(activatedSockets(process.env, process.pid));
  const addresses = new Map<string, string[]>();
  for (const driver of faces.drivers) {
    const app = pluginApp({
      ...faces,
      driver,
      ready: ready.promise,
      peerPid,
      onActivate: () => lookNow(),
      log: log.child({ part: driver.name }),
      debug: config.debug,
      managed: config.managed,
      onPeer: peer => state.publisher.noticeEngine(peer),
    });
    const entry = config.drivers[driver.name] as DriverConfig;
    const socket = await listen(httpServer(app), passed, driver.name, entry.socket, servers);
    const tcp = entry.tcp === undefined ? [] : [await listenOnTcp(app, entry.tcp, servers)];
    addresses.set(driver.name, [socket, ...tcp]);
  }
  const status = statusOf(faces, addresses);
  const admin = adminApp({ ...faces, status, ready: ready.promise });
  await listen(httpServer(admin), passed, 'admin', config.adminSocket, servers);
  const [stranger] = passed.keys();
  if (stranger !== undefined)
    throw new InvalidArgument(
      `systemd passed a socket named ${stranger}, which no driver has; FileDescriptorName= in its unit is the name of a driver, or admin`,
    );

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
  const measuring = repeat(
    config.intervals.usageSeconds * 1000,
    signal => meter.measureStale(signal),
    warn('meter'),
  );
  work.defer(() => measuring.stop());
}

/** Listens on a socket that systemd passed under this name, or else on our own. @returns its address */
async function listen(
  server: Server,
  passed: Map<string, number>,
  name: string,
  path: string,
  servers: (() => Promise<void>)[],
): Promise<string> {
  const fd = passed.get(name);
  passed.delete(name);
  const close = fd === undefined ? await listenUnix(server, path, 0o600) : await listenFd(server, fd);
  servers.push(() => drain(server, close));
  return fd === undefined ? `unix://${path}` : `systemd socket ${name}`;
}

async function listenOnTcp(
  app: Express,
  { address, tls }: TcpConfig,
  servers: (() => Promise<void>)[],
): Promise<string> {
  const read = (path: string): string => readFileSync(path, 'utf8');
  const material = tls && { cert: read(tls.certFile), key: read(tls.keyFile), ca: read(tls.caFile) };
  const server = httpServer(app, material);
  const close = await listenTcp(server, address);
  servers.push(() => drain(server, close));
  return `tcp://${address}${tls === undefined ? ' (no TLS)' : ''}`;
}

function statusOf(faces: Faces, addresses: ReadonlyMap<string, readonly string[]>): () => StatusView {
  const { config, drivers, inventory, keeper } = faces;
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
