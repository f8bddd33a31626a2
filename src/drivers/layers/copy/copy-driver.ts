import { chmod } from 'node:fs/promises';
import type { LayerAbilities, Stack } from '../../../core/layers/layer-disk.ts';
import type { LayerKind } from '../../../core/layers/layer-store.ts';
import type { MountSource } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import type { Usage } from '../../../core/ports.ts';
import { FailedPrecondition, Unimplemented } from '../../../errors/errors.ts';
import { step } from '../../../lib/fault.ts';
import type { Archiver, OpenTree, View } from '../archive/archiver.ts';
import { closing, openAll } from '../comparison.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { openDirectoryView } from '../directory-view.ts';
import type { LayerDriver, MakePlan } from '../driver.ts';
import { refuseLimitInUse } from '../limit-in-use.ts';
import { linkToParent, makeTree, WholeTrees } from '../whole-trees.ts';

/**
 * Each layer is a whole copy of the one beneath, in `ROOT/NUMBER/fs`, that shares the data with it where the file
 * system can (reflink). Works on every file system that keeps owners, attributes and device files; what a layer
 * shows is what it holds, so that the other drivers are compared with this one.
 */
export class CopyDriver implements LayerDriver {
  readonly name = 'copy';
  readonly abilities: LayerAbilities = { limits: [], snapshot: 'copy', freezesInUse: false };
  readonly #trees: WholeTrees;
  readonly #archiver: Archiver;

  constructor(parts: { readonly root: string; readonly archiver: Archiver }) {
    this.#trees = new WholeTrees(parts.root);
    this.#archiver = parts.archiver;
  }

  async make(draft: string, below: Stack | null, { kind, limit }: MakePlan): Promise<void> {
    if (limit !== null) {
      throw new Unimplemented(
        'the layer driver copy cannot limit a layer; use the driver btrfs or overlay, or no limit',
      );
    }
    if (kind === 'view' && below !== null) await linkToParent(draft, below);
    else if (below === null) await chmod(await makeTree(draft), 0o755);
    else await this.#copy(below, draft);
  }

  async placed(): Promise<void> {}

  async isPlaced(): Promise<boolean> {
    return true;
  }

  async mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]> {
    return this.#trees.mounts(stack, kind);
  }

  open(stack: Stack): Promise<OpenTree> {
    return this.#trees.open(stack);
  }

  view(stack: Stack): Promise<View> {
    return this.#trees.view(stack);
  }

  async seal(): Promise<void> {}

  /** What it holds otherwise than its parent; on a file system without reflinks the copy takes all of it. */
  async usage(stack: Stack, signal?: AbortSignal): Promise<Usage> {
    const [own, ...below] = stack;
    if (await this.#trees.isLink(stack)) return { bytes: 0, inodes: 0 };
    const after = await this.#trees.view([own]);
    return await closing([after], async () => {
      const [parent] = below;
      if (parent === undefined) return await this.#archiver.measure(after, signal);
      const before = await this.#trees.view([parent]);
      return await closing([before], () => this.#archiver.measureDifference(before, after, signal));
    });
  }

  /** The copy is the frozen one. It is looked for users again afterwards: who came meanwhile may have torn it. */
  async freeze(stack: Stack, draft: string): Promise<'frozen'> {
    await this.#requireIdle(stack);
    await this.#copy(stack, draft);
    await this.#requireIdle(stack);
    return 'frozen';
  }

  async #requireIdle(stack: Stack): Promise<void> {
    const user = await this.#trees.user(stack);
    if (user === undefined) return;
    throw new FailedPrecondition(
      `cannot freeze layer ${stack[0]}: ${user}, and a copy would be torn; unmount it, or use the driver btrfs`,
    );
  }

  async #copy(from: Stack, draft: string): Promise<void> {
    const views = await openAll(
      () => this.#trees.view(from),
      async () => openDirectoryView(await makeTree(draft)),
    );
    const [source, target] = views;
    await closing(views, () => step('layer.copy', () => this.#archiver.copy(source, target, {})));
  }

  async limit(): Promise<never> {
    throw refuseLimitInUse(this.name);
  }

  merge(stack: Stack): Promise<boolean> {
    return this.#trees.merge(stack);
  }

  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    return this.#trees.inUse(numbers);
  }

  delete(directory: string): Promise<void> {
    return deleteDirectory(directory);
  }

  async close(): Promise<void> {}
}
