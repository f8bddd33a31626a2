import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { imageName, makeLayer, makeTestImage, makeTestLayers } from './engine-image.ts';
import type { ImageArchive } from './image-archive.ts';
import { randomBytes } from './layer-tree.ts';
import { type FileSystem, PowerCutDisk } from './power-cut-disk.ts';
import { SnapshotterHost } from './snapshotter-host.ts';
import { directory, file } from './tar-entries.ts';
import { readWholeTree, treeDifferences, type WholeEntry } from './whole-tree.ts';

/** What a look at an image after a power cut found. */
export type Finding = 'whole' | 'refused as damaged';

/** A containerd and a varve with all that they have on a disk whose power can be cut, and images to import. */
export class ImagePowerWorld {
  readonly #disk: PowerCutDisk;
  readonly #scratch: string;
  readonly #images = new Map<string, ImageArchive>();
  readonly #trees = new Map<string, ReadonlyMap<string, WholeEntry>>();
  readonly host: SnapshotterHost;

  private constructor(disk: PowerCutDisk, scratch: string, host: SnapshotterHost) {
    this.#disk = disk;
    this.#scratch = scratch;
    this.host = host;
  }

  static async open(type: FileSystem, sync: 'apply' | 'later'): Promise<ImagePowerWorld> {
    const disk = await PowerCutDisk.make(type);
    const scratch = mkdtempSync(join(tmpdir(), 'varve-images-'));
    try {
      mkdirSync(disk.root);
      const host = await SnapshotterHost.start({ disk: disk.root, snapshotter: { sync } });
      const world = new ImagePowerWorld(disk, scratch, host);
      await world.#makeImages();
      return world;
    } catch (error) {
      await disk.dispose();
      rmSync(scratch, { recursive: true, force: true });
      throw error;
    }
  }

  get images(): readonly string[] {
    return [...this.#images.keys()];
  }

  /** @returns when `ctr images import` has returned */
  async import(name: string): Promise<void> {
    await this.host.containerd.ctr('images', 'import', '--snapshotter', 'varve', this.archiveOf(name));
  }

  archiveOf(name: string): string {
    return this.#images.get(name)?.path ?? '';
  }

  /** Cuts the power, at once, and brings it back; both begin anew on what is on the disk. */
  async cutPower(): Promise<void> {
    this.#disk.cut();
    await this.host.containerd.kill9();
    await this.host.daemon.kill9();
    await this.#disk.restore();
    await this.host.daemon.start({ bootId: randomUUID() });
    await this.host.containerd.restart();
    await this.host.untilReached();
  }

  /** Runs an image. What runs has every file as it was; what does not is refused as damaged. */
  async look(name: string): Promise<Finding> {
    const ran = await this.host.containerd.tryRun('varve', imageName(name), 'look', 'cat /opt/name');
    if (ran.exitCode !== 0) {
      expect(ran.stderr, `the refusal of ${name}`).to.match(/damaged/);
      await this.host.containerd.tryCtr('containers', 'rm', 'look');
      return 'refused as damaged';
    }
    const tree = await this.#treeOf(name);
    const differences = treeDifferences(tree, this.#trees.get(name) ?? new Map());
    expect(differences.join('\n'), name).to.equal('');
    expect(ran.stdout, `what the container of ${name} reads, though its files are whole`).to.equal(name);
    return 'whole';
  }

  /**
   * Removes images and imports them again; then they have to be whole. What only they have is removed with them, unless
   * the lease of an import that was cut off keeps it.
   */
  async repair(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    await this.host.removeLeases();
    await this.host.containerd.ctr('images', 'rm', '--sync', ...names.map(imageName));
    for (const name of names) await this.import(name);
    for (const name of names) expect(await this.look(name), `${name}, imported again`).to.equal('whole');
  }

  /** Those of these images that are refused. */
  async refused(names: readonly string[]): Promise<readonly string[]> {
    const found: string[] = [];
    for (const name of names) if ((await this.look(name)) !== 'whole') found.push(name);
    return found;
  }

  async removeAll(): Promise<void> {
    await this.host.clear();
  }

  async close(): Promise<void> {
    try {
      await this.host.stop();
    } finally {
      await this.#disk.dispose();
      rmSync(this.#scratch, { recursive: true, force: true });
    }
  }

  /** Three, of which two share what is beneath; each is imported once to see what it holds. */
  async #makeImages(): Promise<void> {
    const base = await makeTestLayers(this.#scratch);
    for (const [index, name] of ['first', 'second', 'third'].entries()) {
      const files = Array.from({ length: 150 }, (_, number) =>
        file(`opt/${name}/file-${number}`, randomBytes(1 + number * 50, number)),
      );
      const entries = [directory('opt'), file('opt/name', name), directory(`opt/${name}`), ...files];
      const own = await makeLayer(this.#scratch, name, entries);
      const layers = index === 2 ? [base[0] ?? '', own] : [...base, own];
      this.#images.set(name, await makeTestImage(this.#scratch, name, layers, { gzip: index === 1 }));
      await this.import(name);
      this.#trees.set(name, await this.#treeOf(name));
    }
    await this.removeAll();
  }

  #treeOf(name: string): Promise<ReadonlyMap<string, WholeEntry>> {
    const image = this.#images.get(name) ?? { chainId: '' };
    return this.host.containerd.mounting(image, root => readWholeTree(join(root, 'opt')), 'varve');
  }
}
