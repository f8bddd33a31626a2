import { join } from 'node:path';
import { givenOptions, parseOptions, type VolumeRequest } from '../core/volumes/options.ts';
import { messageOf } from '../errors/errors.ts';
import { nearest } from '../lib/nearest.ts';
import type { Problem } from './explain.ts';
import type { Config, DriverConfig, LayerStoreConfig, PoolConfig, Settings } from './schema.ts';

const dockerSocket = 'unix:///var/run/docker.sock';

/** Fills in what is derived from other keys; nothing is checked. */
export function resolveConfig(settings: Settings, dockerHost: string | undefined): Config {
  const implicitPool: PoolConfig = { driver: 'directory', path: join(settings.root, 'pools/default') };
  const implicitStore: LayerStoreConfig = { driver: 'auto', path: join(settings.root, 'layers/default') };
  const implicitDriver: Settings['drivers'][string] = { pool: 'default', options: {} };
  const drivers = Object.entries({ varve: implicitDriver, ...settings.drivers });
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
    layerStores: { default: implicitStore, ...settings.layerStores },
    drivers: Object.fromEntries(drivers.map(([name, driver]) => [name, withSocket(name, driver)])),
  };
}

function withSocket(name: string, driver: Settings['drivers'][string]): DriverConfig {
  const { pool, socket = `/run/docker/plugins/${name}.sock`, options, ...rest } = driver;
  return { pool, socket, options: givenOptions(options), ...rest };
}

/** What is wrong between keys that are right by themselves. */
export function conflicts(config: Config): readonly Problem[] {
  return [
    ...missingPools(config),
    ...wrongOptions(config),
    ...sharedAddresses(config),
    ...nestedPlaces(config),
    ...mountPointsProblem(config),
    ...rootProblem(config),
  ];
}

function missingPools(config: Config): Problem[] {
  const pools = Object.keys(config.pools);
  return Object.entries(config.drivers)
    .filter(([, driver]) => !pools.includes(driver.pool))
    .map(([name, { pool }]) => ({ path: ['drivers', name, 'pool'], message: noSuchPool(pool, pools) }));
}

function noSuchPool(pool: string, pools: readonly string[]): string {
  const near = nearest(pool, pools);
  const way = near === undefined ? `add it under pools, or use ${pools.join(', ')}` : `did you mean ${near}?`;
  return `is ${JSON.stringify(pool)}, which is not a pool; ${way}`;
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
    ...(pool === undefined || pools.includes(pool) ? [] : [`has a pool that ${noSuchPool(pool, pools)}`]),
    ...(sizeBytes === undefined
      ? []
      : [`has size=${options['size']}, and no kind of pool can enforce a size; remove it`]),
  ];
}

/** Two servers on one address: the second would fail to start. */
function sharedAddresses(config: Config): Problem[] {
  const taken = new Map([[config.adminSocket, 'adminSocket']]);
  const problems: Problem[] = [];
  const take = (address: string, path: readonly string[]) => {
    const owner = taken.get(address);
    if (owner !== undefined)
      problems.push({ path, message: `is ${address}, which ${owner} has too; choose another` });
    else taken.set(address, path.join('.'));
  };
  for (const [name, driver] of Object.entries(config.drivers)) {
    take(driver.socket, ['drivers', name, 'socket']);
    if (driver.tcp !== undefined) take(driver.tcp.address, ['drivers', name, 'tcp', 'address']);
  }
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

/** A volume that shows up inside a pool or a layer store would be taken for a part of it. */
function mountPointsProblem(config: Config): Problem[] {
  const { mountPoints } = config;
  const isIn = (path: string, other: string): boolean => other === '/' || `${path}/`.startsWith(`${other}/`);
  return placesOf(config)
    .filter(({ directory }) => isIn(directory, mountPoints) || isIn(mountPoints, directory))
    .map(({ title, directory }) => ({
      path: ['mountPoints'],
      message: `is ${mountPoints}, and ${title} is at ${directory}; neither may hold the other: choose a directory of its own`,
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
