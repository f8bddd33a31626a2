import { mkdir, mkdtemp, realpath, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountPoints } from '../../scripts/lib/mounts.ts';
import { must } from '../../scripts/lib/process.ts';
import { until } from '../../scripts/lib/wait.ts';
import type { Stack } from '../../src/core/layers/layer-disk.ts';
import { type LayerNumber, parseLayerNumber } from '../../src/core/names.ts';
import type { LayerDriver, MakePlan } from '../../src/drivers/layers/driver.ts';
import { LoopDisk } from './loop-disk.ts';

/** A stack by its numbers, from the top down. */
export function stack(first: number, ...others: readonly number[]): Stack {
  return [parseLayerNumber(first), ...others.map(parseLayerNumber)];
}

export async function isInUse(driver: LayerDriver, number: LayerNumber): Promise<boolean> {
  return (await driver.inUse([number])).has(number);
}

/** A container that starts somewhere copies all mounts, and has them for a moment. */
export async function untilUnused(driver: LayerDriver, number: LayerNumber): Promise<void> {
  await until(`layer ${number} to be unused`, 10_000, async () => !(await isInUse(driver, number)));
}

/** A file system in a file, mounted, and an empty directory on it for the layers. */
export class LayerRoot {
  readonly #scratch: string;
  readonly disk: string;
  readonly path: string;

  private constructor(scratch: string) {
    this.#scratch = scratch;
    this.disk = join(scratch, 'disk');
    this.path = join(this.disk, 'layers');
  }

  static async make(fileSystem: 'ext4' | 'xfs' | 'btrfs', megabytes: number): Promise<LayerRoot> {
    const root = new LayerRoot(await realpath(await mkdtemp(join(tmpdir(), 'varve-layers-'))));
    const loop = await LoopDisk.make(join(root.#scratch, 'image'), megabytes, fileSystem);
    await mkdir(root.disk);
    await loop.mount(root.disk);
    await mkdir(join(root.path, 'trash'), { recursive: true });
    return root;
  }

  /** The tree of a layer. */
  tree(number: number, ...path: readonly string[]): string {
    return join(this.path, String(number), 'fs', ...path);
  }

  /** Makes the layer at the top of a stack, as `LayerDirectory` does. */
  async add(driver: LayerDriver, number: number, below: readonly number[], plan: Partial<MakePlan> = {}) {
    const [parent, ...rest] = below;
    const { kind = 'active', limit = null } = plan;
    await this.draft(number, draft =>
      driver.make(draft, parent === undefined ? null : stack(parent, ...rest), { kind, limit }),
    );
    await driver.placed(stack(number, ...below), kind);
  }

  /** Makes a draft, has it filled and gives it its place. */
  async draft<T>(number: number, fill: (draft: string) => Promise<T>): Promise<T> {
    const draft = join(this.path, `new-${number}`);
    await mkdir(draft, 0o700);
    const result = await fill(draft);
    await rename(draft, join(this.path, String(number)));
    return result;
  }

  async commit(driver: LayerDriver, number: number, ...below: readonly number[]): Promise<void> {
    await driver.seal(stack(number, ...below));
    await driver.placed(stack(number, ...below), 'committed');
  }

  /** Removes a layer: into the trash, then for good. */
  async remove(driver: LayerDriver, number: number): Promise<void> {
    const trash = join(this.path, 'trash', String(number));
    await rename(join(this.path, String(number)), trash);
    await driver.delete(trash);
  }

  /** Ends this one as a power cut now would; what was on its disk by then, attached again. */
  async afterPowerCut(): Promise<LayerRoot> {
    const later = new LayerRoot(await realpath(await mkdtemp(join(tmpdir(), 'varve-layers-'))));
    const image = join(later.#scratch, 'image');
    await must('cp', ['--sparse=always', join(this.#scratch, 'image'), image]);
    // The kernel refuses two file systems of one identity at a time.
    await LoopDisk.unmount(this.disk);
    await mkdir(later.disk);
    await new LoopDisk(image).mount(later.disk);
    return later;
  }

  async close(): Promise<void> {
    if (mountPoints().includes(this.disk)) await LoopDisk.unmount(this.disk);
    await rm(this.#scratch, { recursive: true });
  }
}
