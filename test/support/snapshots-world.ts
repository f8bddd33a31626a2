import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/lib/wait.ts';
import type { LayerStore } from '../../src/core/layers/layer-store.ts';
import type { StoreSpace } from '../../src/core/layers/view.ts';
import type { MountSource } from '../../src/core/mount.ts';
import { admin } from '../crash/admin.ts';
import { startDaemon, type TestDaemon } from './daemon.ts';
import { must, Scratch } from './host-scratch.ts';
import { collect, type MountingWorld } from './layer-world.ts';
import { LoopDisk } from './loop-disk.ts';
import { MountPoints } from './mount-points.ts';
import { beyondSnapshots, SnapshotsClient } from './snapshots-client.ts';

const containerdSocket = 'containerd.sock';

/** A daemon that keeps its layers on a file system in memory, and is asked as containerd asks a snapshotter. */
export class SnapshotsHost {
  readonly daemon: TestDaemon;
  readonly #scratch: Scratch;
  #worlds = 0;

  private constructor(daemon: TestDaemon, scratch: Scratch) {
    this.daemon = daemon;
    this.#scratch = scratch;
  }

  /** @param snapshotter further keys of the snapshotter in the configuration */
  static async make(snapshotter: Readonly<Record<string, unknown>> = {}): Promise<SnapshotsHost> {
    const scratch = await Scratch.make();
    try {
      const [memory, disk] = [await scratch.directory('memory'), await scratch.directory('disk')];
      await must('mount', '-t', 'tmpfs', '-o', 'size=3g', 'varve-test', memory);
      await (await LoopDisk.make(join(memory, 'image'), 2048)).mount(disk);
      const layerStores = { containerd: { path: join(disk, 'layers'), driver: 'overlay' } };
      const daemon = await startDaemon({
        config: {
          layerStores,
          snapshotters: { varve: { containerd: join(scratch.path, containerdSocket), ...snapshotter } },
        },
      });
      return new SnapshotsHost(daemon, scratch);
    } catch (error) {
      await scratch.remove();
      throw error;
    }
  }

  get socket(): string {
    return join(this.daemon.directory, 'run/containerd.sock');
  }

  /** Where the daemon looks for containerd. */
  get containerd(): string {
    return join(this.#scratch.path, containerdSocket);
  }

  /** The directory of the layers. */
  get root(): string {
    return join(this.#scratch.path, 'disk/layers');
  }

  /** A look at the store; it holds nothing, for what an earlier look left is removed when that is closed. */
  async open(): Promise<SnapshotsWorld> {
    this.#worlds += 1;
    const points = await this.#scratch.directory(`m/${this.#worlds}`);
    const scratch = mkdtempSync(join(this.#scratch.path, 'memory/scratch-'));
    return new SnapshotsWorld(this, { points, scratch });
  }

  /** A directory for whatever a test needs. */
  directory(name: string): Promise<string> {
    return this.#scratch.directory(name);
  }

  /** Holds whoever comes to a fault point; `daemon.hits()` has it as soon as somebody has come. */
  hold(point: string): void {
    rmSync(join(this.daemon.directory, 'faults.hits'), { force: true });
    this.daemon.faults({ [point]: 'hold' });
  }

  /** Removes every layer with its files. */
  async clear(): Promise<void> {
    const store = this.client();
    try {
      await removeAll(store);
      await store.cleanup();
    } finally {
      await store.close();
    }
    await this.expectNoStrays();
  }

  /** What was removed is deleted by now, or soon. */
  async expectNoStrays(): Promise<void> {
    const strays = async () => {
      const spaces = await admin<StoreSpace[]>(this.daemon, 'GET', '/v1/layers-usage?store=containerd');
      return spaces.flatMap(space => space.strays);
    };
    await until('the files of removed layers to be gone', 10_000, async () => (await strays()).length === 0);
  }

  client(): SnapshotsClient {
    return new SnapshotsClient(this.daemon, this.socket);
  }

  async remove(): Promise<void> {
    await this.daemon.dispose();
    await this.#scratch.remove();
  }
}

export class SnapshotsWorld implements MountingWorld {
  readonly lacks = beyondSnapshots;
  readonly root: string;
  readonly scratch: string;
  readonly store: SnapshotsClient;
  readonly #points: MountPoints;
  readonly #host: SnapshotsHost;

  constructor(
    host: SnapshotsHost,
    { points, scratch }: { readonly points: string; readonly scratch: string },
  ) {
    this.root = host.root;
    this.scratch = scratch;
    this.store = host.client();
    this.#host = host;
    this.#points = new MountPoints(points);
  }

  /** The daemon goes on: what a restart keeps has a test of its own. */
  async reopen(): Promise<LayerStore> {
    return this.store;
  }

  mount(sources: readonly MountSource[]): Promise<string> {
    return this.#points.mount(sources);
  }

  unmount(path: string): Promise<void> {
    return this.#points.unmount(path);
  }

  async close(): Promise<void> {
    await this.#points.close();
    await this.store.close();
    const store = this.#host.client();
    await removeAll(store).finally(() => store.close());
  }
}

/** Removes every layer, those that others rest on last. */
async function removeAll(store: LayerStore): Promise<void> {
  const names = (await collect(store.walk())).map(({ name }) => name);
  for (const name of names.reverse()) await store.remove(name).catch(() => undefined);
  const [left] = await collect(store.walk());
  if (left !== undefined && names.length > 0) await removeAll(store);
}
