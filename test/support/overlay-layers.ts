import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerKind } from '../../src/core/layers/layer-store.ts';
import type { OverlayUse } from '../../src/core/layers/overlay-mounts.ts';
import type { Archiver } from '../../src/drivers/layers/archive/archiver.ts';
import { copyTask } from '../../src/drivers/layers/archive/copy.ts';
import { measureTask } from '../../src/drivers/layers/archive/measure.ts';
import { mergeTask } from '../../src/drivers/layers/archive/merge.ts';
import { openOverlayDriver } from '../../src/drivers/layers/overlay/open.ts';
import type { OverlayDriver } from '../../src/drivers/layers/overlay/overlay-driver.ts';
import { LinuxMounter } from '../../src/host/linux/mounter.ts';
import { LayerRoot, stack } from './whole-layers.ts';

const context = { progress: () => {}, throwIfAborted: () => {} };

/** What the driver needs of an archiver, in this thread. */
export const localArchiver = {
  measure: async tree => measureTask({ tree: tree.fd }, context),
  copy: async (from, into) => copyTask({ from: from.fd, into: into.fd }, context),
  merge: async ({ upper, lower, below, into, prefix, redirects }) =>
    mergeTask(
      { upper: upper.fd, lower: lower.fd, below: below?.fd ?? null, into: into.fd, prefix, redirects },
      context,
    ),
} as Pick<Archiver, 'measure' | 'copy' | 'merge'> as Archiver;

/** Layers of the driver `overlay` on a file system of their own. */
export class OverlayLayers {
  readonly root: LayerRoot;
  readonly driver: OverlayDriver;
  readonly mounter = new LinuxMounter();
  readonly #mounted = new Set<string>();
  #points = 0;

  private constructor(root: LayerRoot, driver: OverlayDriver) {
    this.root = root;
    this.driver = driver;
  }

  static async make(
    fileSystem: 'ext4' | 'xfs' | 'btrfs',
    use: OverlayUse = 'images',
  ): Promise<OverlayLayers> {
    const root = await LayerRoot.make(fileSystem, 400);
    return new OverlayLayers(root, await openOverlayDriver(root.path, localArchiver, use));
  }

  /** Mounts a stack. @returns where */
  async mount(kind: LayerKind, number: number, ...below: readonly number[]): Promise<string> {
    this.#points += 1;
    const target = join(this.root.disk, `mnt-${this.#points}`);
    await mkdir(target);
    for (const source of await this.driver.mounts(stack(number, ...below), kind)) {
      await this.mounter.mount({ ...source, target });
    }
    this.#mounted.add(target);
    return target;
  }

  async unmount(target: string): Promise<void> {
    await this.mounter.unmount(target);
    this.#mounted.delete(target);
  }

  /** Makes an active layer, has it changed through a mount, and commits it. */
  async layer(
    number: number,
    below: readonly number[],
    change: (path: string) => Promise<unknown>,
  ): Promise<void> {
    await this.root.add(this.driver, number, below);
    await this.change(change, number, ...below);
    await this.root.commit(this.driver, number, ...below);
  }

  /** Changes an active layer through a mount of it. */
  async change(
    change: (path: string) => Promise<unknown>,
    number: number,
    ...below: readonly number[]
  ): Promise<void> {
    const target = await this.mount('active', number, ...below);
    try {
      await change(target);
    } finally {
      await this.unmount(target);
    }
  }

  /** Files and what is in them, as a container sees a stack; a directory ends in a slash. */
  async show(number: number, ...below: readonly number[]): Promise<Readonly<Record<string, string>>> {
    const view = await this.driver.view(stack(number, ...below));
    try {
      return await contentsOf(`/proc/self/fd/${view.fd}`);
    } finally {
      await view.close();
    }
  }

  async close(): Promise<void> {
    for (const target of this.#mounted) await this.mounter.unmount(target);
    for (const name of await readdir(this.root.path)) {
      if (/^(new-)?[0-9]+$/.test(name)) await this.driver.delete(join(this.root.path, name));
    }
    await this.root.close();
  }
}

async function contentsOf(path: string): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    const full = join(entry.parentPath, entry.name);
    const name = full.slice(path.length + 1);
    if (entry.isDirectory()) found[`${name}/`] = '';
    else found[name] = entry.isFile() ? await readFile(full, 'utf8') : 'special';
  }
  return found;
}
