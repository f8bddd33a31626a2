import { randomUUID } from 'node:crypto';
import { parseDriverName, parseMountId, parsePoolName, parseVolumeName } from '../../src/core/names.ts';
import type { Directory, Disk, Engine, EngineVolume, Mounter, ObjectStore } from '../../src/core/ports.ts';
import { Catalog } from '../../src/core/volumes/catalog.ts';
import { Copies } from '../../src/core/volumes/copies.ts';
import { Creator } from '../../src/core/volumes/creator.ts';
import type { Driver } from '../../src/core/volumes/driver.ts';
import { Inventory } from '../../src/core/volumes/inventory.ts';
import { Keeper } from '../../src/core/volumes/keeper.ts';
import { Meter } from '../../src/core/volumes/meter.ts';
import type { Pool } from '../../src/core/volumes/pool.ts';
import { Pools } from '../../src/core/volumes/pools.ts';
import { Publisher } from '../../src/core/volumes/publisher.ts';
import { VolumeService, type Waits } from '../../src/core/volumes/service.ts';
import type { StateParts } from '../../src/core/volumes/state.ts';
import { Trash } from '../../src/core/volumes/trash.ts';
import { openDirectoryPool } from '../../src/drivers/pools/directory/open.ts';
import { Unavailable } from '../../src/errors/errors.ts';
import { FakeClock } from '../../src/host/fake/clock.ts';
import { FakeMounter } from '../../src/host/fake/mounter.ts';
import type { Logger } from '../../src/lib/log.ts';
import { MemoryStore } from '../../src/store/memory/memory-store.ts';
import { MemoryDisk } from './memory-disk.ts';
import { Power } from './power.ts';

export const volumeName = parseVolumeName;
export const mountId = parseMountId;
export const varve = parseDriverName('varve');
const defaultPool = parsePoolName('default');

/** An engine's API that says what it is told to; unreachable until then. */
class FakeEngine implements Engine {
  answer: readonly EngineVolume[] | undefined;

  async volumes(): Promise<readonly EngineVolume[]> {
    if (this.answer === undefined) throw new Unavailable('the engine does not answer; start it');
    return this.answer;
  }

  async version(): Promise<string> {
    return 'Fake Engine 1';
  }
}

export interface HostOptions {
  /** In memory unless a test wants a real one; then `root` is a directory of its own. */
  readonly disk?: Disk;
  readonly mounter?: Mounter;
  readonly root?: string;
}

export interface StartOptions {
  readonly waits?: Waits;
  readonly rebuild?: boolean;
  /** Whether it runs as a managed plugin. */
  readonly managed?: boolean;
}

/** A run of the daemon: its parts without its sockets. */
export interface Daemon extends StateParts {
  readonly copies: Copies;
  readonly inventory: Inventory;
  readonly meter: Meter;
  readonly keeper: Keeper;
  readonly trash: Trash;
  readonly pool: Pool;
  readonly driver: Driver;
  readonly drivers: readonly Driver[];
  readonly power: Power;
  readonly log: readonly string[];
}

/** What outlives the daemon: the disks, the mounts, the stores, the time and the engine. */
export class Host {
  readonly disk: Disk;
  readonly memory = new MemoryDisk();
  readonly mounts = new FakeMounter();
  readonly clock = new FakeClock();
  readonly engine = new FakeEngine();
  readonly root: string;
  readonly poolPath: string;
  store: ObjectStore = new MemoryStore();
  bootStore: ObjectStore = new MemoryStore();
  readonly #mounter: Mounter;
  #daemon: Daemon | undefined;

  constructor({ disk, mounter, root = '/varve' }: HostOptions = {}) {
    this.disk = disk ?? this.memory;
    this.#mounter = mounter ?? this.mounts;
    this.root = root;
    this.poolPath = `${root}/pools/default`;
  }

  /** Starts the daemon as `main.ts` does, after the death of the one before; without its background work. */
  async start(options: StartOptions = {}): Promise<Daemon> {
    this.#daemon?.power.cut();
    const daemon = await this.compose(options);
    this.#daemon = daemon;
    await daemon.catalog.load();
    if (options.rebuild !== true) await daemon.keeper.observe();
    return daemon;
  }

  async compose({ waits, rebuild = false, managed = false }: StartOptions): Promise<Daemon> {
    const power = new Power();
    const clock = this.clock;
    const disk = power.supply(this.disk, result => (isDirectory(result) ? power.supply(result) : result));
    const store = power.supply(this.store);
    const [log, lines] = memoryLog();
    const pool = await openDirectoryPool({
      ...{ disk, store, rebuild, name: defaultPool, path: this.poolPath },
      owner: 'owner',
      newUuid: randomUUID,
    });
    const pools = new Pools([pool]);
    const catalog = new Catalog(store, power.supply(this.bootStore));
    const mountPoints = await disk.open(`${this.root}/mnt`, { make: true });
    const publisher = new Publisher(power.supply(this.#mounter), mountPoints, { managed });
    const trash = new Trash({ catalog, pools, publisher, log });
    const copies = new Copies(log);
    const creator = new Creator({
      ...{ catalog, pools, publisher, copies, disk, clock, trash },
      ...{ root: this.root, hostPaths: !managed },
    });
    const parts = { catalog, pools, publisher, copies, creator, trash, clock, log };
    const service = new VolumeService(parts, waits);
    const inventory = new Inventory(service, pools);
    const meter = new Meter(catalog, pools, clock, log);
    const driver: Driver = { name: varve, pool: defaultPool, options: {} };
    const drivers = [driver];
    const keeper = new Keeper({ ...parts, service, inventory, drivers, engine: this.engine });
    return {
      ...{ store, catalog, pools, publisher, service, clock, copies, inventory, meter, keeper, trash },
      ...{ pool, driver, drivers, power, log: lines },
    };
  }

  /** The power of the whole host goes: mounts and consumers with it. */
  reboot(): void {
    this.bootStore = new MemoryStore();
    this.mounts.endProcess(process.pid);
  }
}

/** A host with a daemon, and a volume `db` on it. */
export async function hostWithVolume(): Promise<{ host: Host; daemon: Daemon }> {
  const host = new Host();
  const daemon = await host.start();
  await daemon.service.create(volumeName('db'), daemon.driver, {});
  return { host, daemon };
}

/** Whether a volume is mounted, as the kernel sees it. */
export async function isMounted(host: Host, number = 1): Promise<boolean> {
  const target = `${host.root}/mnt/default-${number}`;
  return (await host.mounts.table()).some(({ mountPoint }) => mountPoint === target);
}

/** A container of that process id uses a volume. */
export function runContainer(host: Host, pid: number, number = 1): void {
  host.mounts.useFrom(pid, `${host.poolPath}/${number}/data`, '/container/data');
}

function memoryLog(): [Logger, string[]] {
  const lines: string[] = [];
  const write = (level: string) => (message: unknown) => {
    lines.push(`${level} ${String(message)}`);
    return log;
  };
  const log = {
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
  } as unknown as Logger;
  return [log, lines];
}

function isDirectory(result: unknown): result is Directory {
  return typeof result === 'object' && result !== null && 'removeTree' in result;
}
