import { join } from 'node:path';
import { givenOptions, parseOptions, type VolumeRequest } from '../core/volumes/options.ts';
import { messageOf } from '../errors/errors.ts';
import { nearest } from '../lib/nearest.ts';
import type { Problem } from './explain.ts';
import type {
  Config,
  DriverConfig,
  LayerStoreConfig,
  PoolConfig,
  Settings,
  SnapshotterConfig,
} from './schema.ts';

const dockerSocket = 'unix:///var/run/docker.sock';

/** Fills in what is derived from other keys; nothing is checked. */
export function resolveConfig(settings: Settings, dockerHost: string | undefined): Config {
  const implicitPool: PoolConfig = { driver: 'directory', path: join(settings.root, 'pools/default') };
  const implicitDriver: Settings['drivers'][string] = { pool: 'default', options: {} };
  const drivers = Object.entries({ varve: implicitDriver, ...settings.drivers });
  const snapshotters = Object.entries({ ...implicitSnapshotters(settings), ...settings.snapshotters });
  return {
    root: settings.root,
    mountPoints: settings.mountPoints ?? join(settings.root, 'mnt'),
    run: settings.run,
    adminSocket: settings.adminSocket ?? join(settings.run, 'varve.sock'),
    engine: settings.engine === 'auto' ? (dockerHost ?? dockerSocket) : settings.engine,
    log: settings.debug ? { ...settings.log, level: 'debug' } : settings.log,
    intervals: settings.intervals,
    debug: settings.debug,
    managed: settings.managed,
    pools: { default: implicitPool, ...settings.pools },
    layerStores: { ...implicitStores(settings), ...settings.layerStores },
    drivers: Object.fromEntries(
      drivers.map(([name, driver]) => [name, resolveDriver(name, driver, settings)]),
    ),
    snapshotters: Object.fromEntries(
      snapshotters.map(([name, snapshotter]) => [name, resolveSnapshotter(name, snapshotter, settings)]),
    ),
  };
}

/** A managed plugin serves no engine's layers: its engine has to run before it, and would not see its mounts. */
function implicitStores({ root, managed }: Settings): Record<string, LayerStoreConfig> {
  const names = managed ? ['default'] : ['default', 'containerd', 'docker'];
  return Object.fromEntries(names.map(name => [name, { driver: 'auto', path: join(root, 'layers', name) }]));
}

function implicitSnapshotters({ managed }: Settings): Settings['snapshotters'] {
  if (managed) return {};
  return {
    varve: { layerStore: 'containerd', containerd: '/run/containerd/containerd.sock', sync: 'apply' },
  };
}

function resolveDriver(
  name: string,
  driver: Settings['drivers'][string],
  { managed }: Settings,
): DriverConfig {
  const { pool, socket = `/run/docker/plugins/${name}.sock`, options, ...rest } = driver;
  const implicit = name === 'varve' && !managed ? { layerStore: 'docker' } : {};
  return { pool, socket, options: givenOptions(options), ...implicit, ...rest };
}

function resolveSnapshotter(
  name: string,
  snapshotter: Settings['snapshotters'][string],
  { run }: Settings,
): SnapshotterConfig {
  const file = name === 'varve' ? 'containerd.sock' : `containerd-${name}.sock`;
  const { socket = join(run, file), ...rest } = snapshotter;
  return { socket, ...rest };
}

/** What is wrong between keys that are right by themselves. */
export function conflicts(config: Config): readonly Problem[] {
  return [
    ...missingPools(config),
    ...wrongLayerStores(config),
    ...wrongOptions(config),
    ...sharedAddresses(config),
    ...nestedPlaces(config),
    ...mountPointsProblem(config),
    ...graphProblem(config),
    ...rootProblem(config),
  ];
}

function missingPools(config: Config): Problem[] {
  const pools = Object.keys(config.pools);
  return Object.entries(config.drivers)
    .filter(([, driver]) => !pools.includes(driver.pool))
    .map(([name, { pool }]) => ({
      path: ['drivers', name, 'pool'],
      message: noSuch(pool, 'a pool', 'pools', pools),
    }));
}

function noSuch(name: string, what: string, key: string, names: readonly string[]): string {
  const near = nearest(name, names);
  const way =
    near === undefined ? `add it under ${key}, or use ${names.join(', ')}` : `did you mean ${near}?`;
  return `is ${JSON.stringify(name)}, which is not ${what}; ${way}`;
}

/** A layer store serves one engine: its garbage collector removes every layer that it does not know. */
function wrongLayerStores({ layerStores, drivers, snapshotters, managed }: Config): Problem[] {
  const stores = Object.keys(layerStores);
  const owners = new Map<string, string>();
  const message = (store: string, key: string): string | undefined => {
    if (managed)
      return 'is refused in a managed plugin, which no engine can keep its layers in; install varve on the host for that';
    if (!stores.includes(store)) return noSuch(store, 'a layer store', 'layerStores', stores);
    const owner = owners.get(store);
    if (owner === undefined) owners.set(store, key);
    return owner && `is ${store}, the layer store of ${owner}; each engine needs one of its own`;
  };
  const used = (key: string, faces: Readonly<Record<string, { readonly layerStore?: string | undefined }>>) =>
    Object.entries(faces).map(([name, { layerStore }]) => ({ path: [key, name, 'layerStore'], layerStore }));
  return [...used('drivers', drivers), ...used('snapshotters', snapshotters)].flatMap(
    ({ path, layerStore }) => {
      const problem = layerStore === undefined ? undefined : message(layerStore, path.slice(0, 2).join('.'));
      return problem === undefined ? [] : [{ path, message: problem }];
    },
  );
}

/** Defaults with which every Create of the driver would fail. */
function wrongOptions(config: Config): Problem[] {
  const pools = Object.keys(config.pools);
  return Object.entries(config.drivers).flatMap(([name, { options }]) => {
    const path = ['drivers', name, 'options'];
    return wrongDefaults(options, pools).map(message => ({ path, message }));
  });
}

function wrongDefaults(options: Readonly<Record<string, string>>, pools: readonly string[]): string[] {
  if (options['help'] !== undefined)
    return ['has help, with which every create would only show the list of options; remove it'];
  let request: VolumeRequest;
  try {
    request = parseOptions(options);
  } catch (error) {
    return [`is refused: ${messageOf(error)}`];
  }
  const { pool, sizeBytes } = request;
  return [
    ...(pool === undefined || pools.includes(pool)
      ? []
      : [`has a pool that ${noSuch(pool, 'a pool', 'pools', pools)}`]),
    ...(sizeBytes === undefined
      ? []
      : [`has size=${options['size']}, and no kind of pool can enforce a size; remove it`]),
  ];
}

/**
 * Two servers on one address: the second would fail to start, or take the place of the first. A containerd that several
 * snapshotters are for is one server.
 */
function sharedAddresses(config: Config): Problem[] {
  const containerds = Object.entries(config.snapshotters).map(
    ([name, { containerd }]) => [containerd, `snapshotters.${name}.containerd`] as const,
  );
  const taken = new Map<string, string>(containerds.reverse());
  const problems: Problem[] = [];
  const take = (address: string, path: readonly string[]) => {
    const owner = taken.get(address);
    if (owner !== undefined)
      problems.push({ path, message: `is ${address}, which ${owner} has too; choose another` });
    else taken.set(address, path.join('.'));
  };
  take(config.adminSocket, ['adminSocket']);
  for (const [name, driver] of Object.entries(config.drivers)) {
    take(driver.socket, ['drivers', name, 'socket']);
    if (driver.tcp !== undefined) take(driver.tcp.address, ['drivers', name, 'tcp', 'address']);
  }
  for (const [name, { socket }] of Object.entries(config.snapshotters))
    take(socket, ['snapshotters', name, 'socket']);
  return problems;
}

/** A directory of the configuration whose contents are ours alone. */
interface Place {
  /** Its key in the configuration. */
  readonly path: readonly string[];
  /** `pool NAME` */
  readonly title: string;
  readonly directory: string;
}

function placesOf({ pools, layerStores }: Config): Place[] {
  const places = (key: string, kind: string, entries: Readonly<Record<string, { path: string }>>): Place[] =>
    Object.entries(entries).map(([name, { path }]) => ({
      path: [key, name, 'path'],
      title: `${kind} ${name}`,
      directory: path,
    }));
  return [...places('pools', 'pool', pools), ...places('layerStores', 'layer store', layerStores)];
}

/** A pool or layer store inside another would count, and delete, what the other holds as its own. */
function nestedPlaces(config: Config): Problem[] {
  const places = placesOf(config);
  return places.flatMap(({ path, directory }, at) =>
    places
      .filter(
        (other, index) =>
          index !== at &&
          `${directory}/`.startsWith(`${other.directory}/`) &&
          (directory !== other.directory || index < at),
      )
      .map(other => ({
        path,
        message: `is ${directory}, inside ${other.directory} of ${other.title}; choose a directory of its own`,
      })),
  );
}

function overlap(one: string, other: string): boolean {
  const isIn = (path: string, outer: string): boolean => outer === '/' || `${path}/`.startsWith(`${outer}/`);
  return isIn(one, other) || isIn(other, one);
}

/** A volume that shows up inside a pool or a layer store would be taken for a part of it. */
function mountPointsProblem(config: Config): Problem[] {
  const { mountPoints } = config;
  return placesOf(config)
    .filter(({ directory }) => overlap(directory, mountPoints))
    .map(({ title, directory }) => ({
      path: ['mountPoints'],
      message: `is ${mountPoints}, and ${title} is at ${directory}; neither may hold the other: choose a directory of its own`,
    }));
}

/** So would a layer that a storage driver has mounted. */
function graphProblem(config: Config): Problem[] {
  if (Object.values(config.drivers).every(({ layerStore }) => layerStore === undefined)) return [];
  const graph = join(config.root, 'graph');
  return [...placesOf(config), { path: ['mountPoints'], directory: config.mountPoints }]
    .filter(({ directory }) => directory !== '/' && overlap(directory, graph))
    .map(({ path, directory }) => ({
      path,
      message: `is ${directory}, and storage drivers mount layers below ${graph}; neither may hold the other: choose a directory of its own`,
    }));
}

function rootProblem(config: Config): Problem[] {
  const message = 'is "/", which holds everything else as well; choose a directory of its own';
  return [
    ...(config.root === '/' ? [{ path: ['root'], message }] : []),
    ...placesOf(config)
      .filter(({ directory }) => directory === '/')
      .map(({ path }) => ({ path, message })),
  ];
}
