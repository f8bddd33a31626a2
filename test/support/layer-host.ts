import { mkdirSync, mkdtempSync, statfsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { mountPoints } from '../../scripts/lib/mounts.ts';
import { workerScript } from '../../scripts/lib/paths.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import { openLayerStore } from '../../src/core/layers/open.ts';
import type { MountSource } from '../../src/core/mount.ts';
import { parseLayerStoreName } from '../../src/core/names.ts';
import type { Clock } from '../../src/core/ports.ts';
import { WorkerArchiver } from '../../src/drivers/layers/archive/worker-archiver.ts';
import { openLayerDirectory } from '../../src/drivers/layers/open.ts';
import { LinuxDisk } from '../../src/host/linux/disk.ts';
import { syncfs, unmount } from '../../src/host/linux/system-calls.ts';
import { MemoryStore } from '../../src/store/memory/memory-store.ts';
import { must, Scratch } from './host-scratch.ts';
import type { LayerWorld } from './layer-world.ts';
import { layerLog } from './memory-layer-world.ts';
import { MountPoints } from './mount-points.ts';

export type FileSystem = 'ext4' | 'xfs' | 'btrfs' | 'tmpfs';

const makers: Readonly<Record<Exclude<FileSystem, 'tmpfs'>, readonly string[]>> = {
  ext4: ['mkfs.ext4', '-q', '-m', '0'],
  xfs: ['mkfs.xfs', '-q'],
  btrfs: ['mkfs.btrfs', '-q', '--metadata', 'single', '--data', 'single'],
};

const name = parseLayerStoreName('test');
const clock: Clock = { now: () => new Date() };

/** A real file system, in a file that is in memory, with any number of layer stores on it. */
export class LayerHost {
  readonly #scratch: Scratch;
  readonly #disk: string;
  readonly #flat: string;
  readonly #archiver = new WorkerArchiver(workerScript);
  readonly #umask: number;
  #worlds = 0;

  private constructor(scratch: Scratch, disk: string, flat: string) {
    this.#scratch = scratch;
    this.#disk = disk;
    this.#flat = flat;
    // The daemon's: what a layer holds must not depend on it.
    this.#umask = process.umask(0o077);
  }

  static async make(fileSystem: FileSystem): Promise<LayerHost> {
    const scratch = await Scratch.make();
    try {
      const [memory, disk] = [await scratch.directory('memory'), await scratch.directory('disk')];
      await must('mount', '-t', 'tmpfs', '-o', 'size=6g', 'varve-test', memory);
      if (fileSystem === 'tmpfs') {
        await must('mount', '-t', 'tmpfs', '-o', 'size=2g', 'varve-test', disk);
      } else {
        const image = join(memory, 'image');
        const file = await open(image, 'wx');
        await file.truncate(4 * 1024 ** 3).finally(() => file.close());
        const [program, ...words] = makers[fileSystem];
        await must(program ?? '', ...words, image);
        await must('mount', '-o', 'loop', image, disk);
      }
      const flat = join(memory, 'flat');
      mkdirSync(flat);
      return new LayerHost(scratch, disk, flat);
    } catch (error) {
      await scratch.remove();
      throw error;
    }
  }

  /** Opens a new layer store, in a directory of its own. */
  async open(driver: string): Promise<LayerWorld> {
    this.#worlds += 1;
    const parts = {
      root: join(this.#disk, `${this.#worlds}`),
      scratch: mkdtempSync(join(this.#flat, 'scratch-')),
      points: await this.#scratch.directory(`m/${this.#worlds}`),
    };
    const world = new DiskLayerWorld(driver, this.#archiver, parts);
    await world.reopen();
    return world;
  }

  /** Unmounts the file system as soon as nothing uses it; fails when something keeps it busy. */
  async remove(): Promise<void> {
    process.umask(this.#umask);
    await this.#archiver.close();
    try {
      // What a limit mounted inside goes first.
      const inside = mountPoints().filter(point => point.startsWith(`${this.#disk}/`));
      for (const point of [...inside.reverse(), this.#disk, join(this.#scratch.path, 'memory')]) {
        await until(`${point} to be idle`, 10_000, async () => (await unmount(point)).errno === 0);
      }
    } finally {
      await this.#scratch.remove();
    }
  }
}

/** Where things are, as absolute paths. */
interface Places {
  readonly root: string;
  readonly scratch: string;
  /** For mount points. */
  readonly points: string;
}

class DiskLayerWorld implements LayerWorld {
  readonly root: string;
  readonly scratch: string;
  readonly #points: MountPoints;
  readonly #driver: string;
  readonly #archiver: WorkerArchiver;
  readonly #records = new MemoryStore();
  #store: LayerStore | undefined;

  constructor(driver: string, archiver: WorkerArchiver, { root, scratch, points }: Places) {
    this.root = root;
    this.scratch = scratch;
    this.#points = new MountPoints(points);
    this.#driver = driver;
    this.#archiver = archiver;
  }

  get store(): LayerStore {
    if (this.#store === undefined) throw new Error('the store is not open');
    return this.#store;
  }

  async reopen(): Promise<LayerStore> {
    await this.#store?.close();
    const [log] = layerLog();
    const [records, driver, archiver] = [this.#records, this.#driver, this.#archiver];
    const disk = await openLayerDirectory({
      ...{ disk: new LinuxDisk(), store: records, name, path: this.root, driver, archiver },
      ...{ newUuid: () => 'uuid-1', rebuild: false, managed: false },
    });
    this.#store = await openLayerStore({ name, store: records, disk, clock, bootId: 'boot-1', log });
    return this.#store;
  }

  mount(sources: readonly MountSource[]): Promise<string> {
    return this.#points.mount(sources);
  }

  unmount(path: string): Promise<void> {
    return this.#points.unmount(path);
  }

  async tamper(layer: string, act: (path: string) => void): Promise<void> {
    const { number } = await this.store.stat(layer);
    const path = join(this.root, `${number}`, 'fs');
    const isSubvolume = this.#driver === 'btrfs';
    const setReadonly = (value: boolean) => must('btrfs', 'property', 'set', path, 'ro', `${value}`);
    if (isSubvolume) await setReadonly(false);
    act(path);
    if (isSubvolume) await setReadonly(true);
  }

  async usedBytes(): Promise<number> {
    // Of its own accord btrfs looks for deleted subvolumes every 30 s; this syncs, and wakes it (BTRFS_IOC_SYNC).
    if (this.#driver === 'btrfs') await must('btrfs', 'filesystem', 'sync', this.root);
    const directory = await open(this.root);
    await syncfs(directory.fd).finally(() => directory.close());
    const { bsize, blocks, bfree } = statfsSync(this.root);
    return (blocks - bfree) * bsize;
  }

  async close(): Promise<void> {
    await this.#points.close();
    await this.#store?.close();
  }
}
