import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { containerdFiles } from '../../scripts/lib/containerd.ts';
import { removeEngine } from '../../scripts/lib/remove-engine.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { LayerView, StoreSpace } from '../../src/core/layers/view.ts';
import { admin } from '../crash/admin.ts';
import { TestContainerd } from './containerd.ts';
import { startDaemon, type TestDaemon } from './daemon.ts';
import { startEngine, type TestEngine } from './engine.ts';

export interface SnapshotterHostOptions {
  /** A directory on the disk on which containerd and varve keep what they have; by default that of temporary files. */
  readonly disk?: string;
  /** Further keys of the snapshotter `varve` in the configuration of the daemon. */
  readonly snapshotter?: Readonly<Record<string, unknown>>;
  /** Further keys of the configuration of the daemon. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** As of {@link startDaemon}. */
  readonly faultPoints?: boolean;
  /** A directory with the programs of an engine; by default that of the selected one. */
  readonly binDir?: string;
}

/** A containerd with varve as a snapshotter and, from 1.7 on, as a differ; each is private. */
export class SnapshotterHost {
  readonly containerd: TestContainerd;
  readonly daemon: TestDaemon;
  readonly #engine: { readonly binDir?: string };

  private constructor(containerd: TestContainerd, daemon: TestDaemon, engine: { readonly binDir?: string }) {
    this.containerd = containerd;
    this.daemon = daemon;
    this.#engine = engine;
  }

  static async start({
    disk,
    snapshotter = {},
    config: more = {},
    faultPoints = true,
    binDir,
  }: SnapshotterHostOptions = {}): Promise<SnapshotterHost> {
    const programs = binDir === undefined ? {} : { binDir };
    const directory = await mkdtemp(join(disk ?? tmpdir(), 'varve-ctrd-'));
    const { socket: containerd } = containerdFiles(directory);
    const snapshotters = { varve: { containerd, ...snapshotter } };
    const config = { snapshotters, ...more, ...(disk === undefined ? {} : { root: join(disk, 'varve') }) };
    const daemon = await startDaemon({ config, faultPoints });
    try {
      const socket = join(daemon.directory, 'run/containerd.sock');
      const varve = { socket, root: join(config.root ?? daemon.root, 'layers/containerd') };
      const started = await TestContainerd.start({ directory, varve, ...programs });
      return new SnapshotterHost(started, daemon, programs);
    } catch (error) {
      await daemon.dispose();
      await removeEngine(directory);
      throw error;
    }
  }

  /** The layers of containerd, as `varve layer ls` has them. */
  list(): Promise<readonly LayerView[]> {
    return admin(this.daemon, 'GET', '/v1/layers?store=containerd');
  }

  /** What `varve layer du` and `tree` show of them, measured. */
  async space(): Promise<StoreSpace> {
    const [space] = await admin<StoreSpace[]>(this.daemon, 'GET', '/v1/layers-usage?store=containerd');
    if (space === undefined) throw new Error('varve knows no layer store of containerd');
    return space;
  }

  /** A `ctr snapshots` command on varve that has to succeed. @returns what it prints */
  snapshots(...words: readonly string[]): Promise<string> {
    return this.containerd.ctr('snapshots', '--snapshotter', 'varve', ...words);
  }

  /** A dockerd, of Docker 26 or later, that keeps its images and containers there. */
  startEngine(args: readonly string[] = []): Promise<TestEngine> {
    const imageStore = { containerd: this.containerd.socket, snapshotter: 'varve' };
    return startEngine({ ...this.#engine, imageStore, args });
  }

  /** Removes every image, container and snapshot of namespace `default`; then no layer may be left, nor its files. */
  async clear(): Promise<void> {
    const { containerd } = this;
    for (const id of lines(await containerd.ctr('containers', 'ls', '--quiet'))) {
      await containerd.tryCtr('tasks', 'kill', '--signal', 'SIGKILL', id);
      await containerd.tryCtr('tasks', 'rm', '--force', id);
      await containerd.ctr('containers', 'rm', id);
    }
    await this.removeLeases();
    await this.#removeSnapshots();
    const images = lines(await containerd.ctr('images', 'ls', '--quiet'));
    if (images.length > 0) await containerd.ctr('images', 'rm', '--sync', ...images);
    // Containerd looks for layers that it does not know only after a snapshot was removed.
    await this.untilReached();
    await containerd.ctr('content', 'prune', 'references');
    await this.expectNoLayers();
  }

  /** Those of imports that were cut off stay for a day. */
  async removeLeases(): Promise<void> {
    for (const id of lines(await this.containerd.ctr('leases', 'ls', '--quiet')))
      await this.containerd.ctr('leases', 'rm', id);
  }

  /**
   * Waits until containerd reaches varve, by a snapshot that it makes and removes: it tries one that was away at most every
   * 3 s, and refuses calls meanwhile.
   */
  async untilReached(): Promise<void> {
    await until('containerd to reach varve', 20_000, async () => {
      const made = await this.containerd.tryCtr('snapshots', '--snapshotter', 'varve', 'prepare', 'probe');
      return made.exitCode === 0;
    });
    await this.snapshots('rm', 'probe');
  }

  /** No layer, no file of one: what was removed is deleted by now, or soon. */
  async expectNoLayers(): Promise<void> {
    await until('the layers to be gone', 20_000, async () => (await this.list()).length === 0).catch(
      () => {},
    );
    expect((await this.list()).map(({ name }) => name)).to.deep.equal([]);
    await until('their files to be gone', 20_000, async () => (await this.space()).strays.length === 0).catch(
      () => {},
    );
    expect((await this.space()).strays).to.deep.equal([]);
  }

  async stop(): Promise<void> {
    try {
      await this.containerd.stop();
    } finally {
      await this.daemon.dispose();
    }
  }

  /** Of no image: those that a test made, the topmost first. */
  async #removeSnapshots(): Promise<void> {
    const left = async () =>
      (await this.containerd.infos('varve'))
        .map(({ name }) => name)
        .filter(key => !key.startsWith('sha256:'));
    for (let keys = await left(); keys.length > 0; ) {
      for (const key of keys) await this.containerd.tryCtr('snapshots', '--snapshotter', 'varve', 'rm', key);
      const rest = await left();
      if (rest.length >= keys.length) throw new Error(`snapshots stay: ${rest.join(', ')}`);
      keys = rest;
    }
  }
}

function lines(text: string): readonly string[] {
  return text.split('\n').filter(line => line !== '');
}
