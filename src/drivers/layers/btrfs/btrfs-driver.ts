import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerAbilities, Stack } from '../../../core/layers/layer-disk.ts';
import type { LayerKind, Limit } from '../../../core/layers/layer-store.ts';
import type { MountSource } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import type { Usage } from '../../../core/ports.ts';
import { FailedPrecondition } from '../../../errors/errors.ts';
import { limitExclusive, removeLimit } from '../../../host/linux/btrfs-quota.ts';
import {
  createSubvolume,
  flush,
  makeReadonly,
  nestedSubvolumes,
  snapshotSubvolume,
  subvolumeOf,
} from '../../../host/linux/btrfs-subvolumes.ts';
import { usageSince } from '../../../host/linux/btrfs-usage.ts';
import { step } from '../../../lib/fault.ts';
import type { OpenTree, View } from '../archive/archiver.ts';
import { closing } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';
import type { LayerDriver, MakePlan } from '../driver.ts';
import { linkToParent, WholeTrees } from '../whole-trees.ts';
import { deleteLayer } from './delete.ts';
import { requireBytesOnly, requireQuotas } from './limits.ts';

/** Milliseconds that others wait for a layer which is being limited: an engine may want to remove it. */
const patienceInUse = 1_000;

/**
 * Each layer is a subvolume, `ROOT/NUMBER/fs`, made as a snapshot of the one beneath: everything is shared, block by
 * block, and what a layer shows is what it holds. `ROOT/NUMBER` is a plain directory, so that drafts and removed
 * layers are renamed as anywhere else.
 */
export class BtrfsDriver implements LayerDriver {
  readonly name = 'btrfs';
  readonly abilities: LayerAbilities = { limits: ['bytes'], snapshot: 'constant', freezesInUse: true };
  readonly #root: string;
  readonly #trees: WholeTrees;

  constructor(root: string) {
    this.#root = root;
    this.#trees = new WholeTrees(root);
  }

  async make(draft: string, below: Stack | null, { kind, limit }: MakePlan): Promise<void> {
    if (kind === 'view' && below !== null) return await linkToParent(draft, below);
    await within(draft, async directory => {
      if (limit !== null) {
        requireBytesOnly(limit);
        await requireQuotas(directory, this.#root);
      }
      if (below === null) await makeEmpty(directory, draft);
      else await this.#snapshot(below, draft, { readonly: false });
    });
    if (limit !== null) await limitTree(join(draft, 'fs'), limit.bytes);
  }

  /** A committed layer is read-only for everybody, also for who has it mounted since before; its limit ends. */
  async placed(stack: Stack, kind: LayerKind): Promise<void> {
    if (kind !== 'committed') return;
    await within(this.#trees.pathOf(stack), async tree => {
      await step('layer.make-readonly', () => makeReadonly(tree));
      const { id } = await subvolumeOf(tree);
      await step('layer.end-limit', () => removeLimit(tree, id));
    });
  }

  /** Of a committed layer nothing tells that its limit ended. */
  async isPlaced(_: Stack, kind: LayerKind): Promise<boolean> {
    return kind !== 'committed';
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

  async seal(stack: Stack): Promise<void> {
    await within(this.#trees.pathOf(stack), refuseNested);
  }

  /**
   * What is younger than the last change of the parent, found in O(changes). Written data counts when it is on the
   * disk, so the file system is flushed first: in a way that takes the news of data that could not be written from
   * nobody, unlike syncfs(2).
   */
  async usage(stack: Stack, signal?: AbortSignal): Promise<Usage> {
    const [own, ...below] = stack;
    if (await this.#trees.isLink([own])) return { bytes: 0, inodes: 0 };
    return await within(this.#trees.pathOf([own]), async tree => {
      await flush(tree);
      return await usageSince(tree, await this.#lastChange(below[0]), signal);
    });
  }

  async #lastChange(parent: Stack[0] | undefined): Promise<number> {
    if (parent === undefined) return 0;
    return await within(this.#trees.pathOf([parent]), async tree => (await subvolumeOf(tree)).changed);
  }

  /** The snapshot is the frozen one: the writable layer stays where it is mounted, and its quota begins anew. */
  async freeze(stack: Stack, draft: string): Promise<'frozen'> {
    await within(this.#trees.pathOf(stack), refuseNested);
    await this.#snapshot(stack, draft, { readonly: true });
    return 'frozen';
  }

  async #snapshot([source]: Stack, draft: string, options: { readonly readonly: boolean }): Promise<void> {
    await within(this.#trees.pathOf([source]), tree =>
      within(draft, directory =>
        step('layer.snapshot', () => snapshotSubvolume(tree, directory, 'fs', options)),
      ),
    );
  }

  async limit(stack: Stack, limit: Limit): Promise<void> {
    requireBytesOnly(limit);
    const path = this.#trees.pathOf(stack);
    await within(path, tree => requireQuotas(tree, this.#root, patienceInUse));
    await limitTree(path, limit.bytes);
  }

  merge(stack: Stack): Promise<boolean> {
    return this.#trees.merge(stack);
  }

  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    return this.#trees.inUse(numbers);
  }

  delete(directory: string): Promise<void> {
    return deleteLayer(directory);
  }

  async close(): Promise<void> {}
}

async function within<T>(path: string, use: (fd: number) => Promise<T>): Promise<T> {
  const directory = await openDirectoryView(path);
  return await closing([directory], () => use(directory.fd));
}

async function makeEmpty(directory: number, draft: string): Promise<void> {
  await step('layer.make-subvolume', () => createSubvolume(directory, 'fs'));
  await chmod(join(draft, 'fs'), 0o755);
}

async function limitTree(path: string, bytes: number): Promise<void> {
  await within(path, async tree => {
    const { id } = await subvolumeOf(tree);
    await step('layer.limit', () => limitExclusive(tree, id, bytes));
  });
}

/** A snapshot has only an empty directory in the place of a subvolume, so that a commit would lose what is in it. */
async function refuseNested(tree: number): Promise<void> {
  const nested = (await nestedSubvolumes(tree, (await subvolumeOf(tree)).id)).at(-1);
  if (nested === undefined) return;
  throw new FailedPrecondition(
    `the layer holds a btrfs subvolume, ${JSON.stringify(nested.name)}, which no layer over it would see; delete it, or move its files to a plain directory`,
  );
}
