import { lstat, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stack } from '../../core/layers/layer-disk.ts';
import type { LayerKind } from '../../core/layers/layer-store.ts';
import type { MountSource } from '../../core/mount.ts';
import type { LayerNumber } from '../../core/names.ts';
import { FailedPrecondition } from '../../errors/errors.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { findMountUsers, MountedPlaces } from '../../host/linux/mount-users.ts';
import type { OpenTree, View } from './archive/archiver.ts';
import { openDirectoryView } from './directory-view.ts';
import { layerAt } from './trash.ts';

/**
 * The layers of a driver whose trees are whole: `ROOT/7/fs` is all that a container sees. The `fs` of a view is a
 * link to that of its parent, or an empty directory.
 */
export class WholeTrees {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /** Where the tree of the topmost layer stands. */
  pathOf([number]: Stack): string {
    return join(this.#root, String(number), 'fs');
  }

  mounts(stack: Stack, kind: LayerKind): readonly MountSource[] {
    const [own, ...below] = stack;
    const shown = kind === 'view' ? (below[0] ?? own) : own;
    return [{ type: 'bind', source: this.pathOf([shown]), readonly: kind !== 'active' }];
  }

  async open(stack: Stack): Promise<OpenTree> {
    const directory = join(this.#root, String(stack[0]));
    return { ...(await this.view(stack)), form: { type: 'whole' }, directory, below: null };
  }

  async view([own, ...below]: Stack): Promise<View> {
    const [parent] = below;
    const isLink = parent !== undefined && (await this.isLink([own]));
    return await openDirectoryView(this.pathOf([isLink ? parent : own]));
  }

  /** Whether a layer has nothing of its own: a view of another one. */
  async isLink(stack: Stack): Promise<boolean> {
    const path = this.pathOf(stack);
    try {
      return (await lstat(path)).isSymbolicLink();
    } catch (error) {
      throw fromNodeError(error, `look at ${path}`);
    }
  }

  /**
   * As {@link LayerDriver.merge}: everything beneath is in the layer itself.
   * @throws FailedPrecondition for a view, which has nothing itself
   */
  async merge(stack: Stack): Promise<false> {
    if (!(await this.isLink(stack))) return false;
    throw new FailedPrecondition(
      `cannot merge layer ${stack[1]} into layer ${stack[0]}: that is a view of it; remove the view first`,
    );
  }

  /** A process that has a layer's tree, or a part of it, mounted. */
  async user(stack: Stack): Promise<string | undefined> {
    const [user] = await findMountUsers(this.pathOf(stack));
    return user && `process ${user.pid} has it mounted on ${user.mountPoint}`;
  }

  /** As {@link LayerDriver.inUse}. */
  async inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    const places = await MountedPlaces.read();
    const mounted = new Set((await places.below(this.#root)).map(layerAt));
    return new Set(numbers.filter(number => mounted.has(number)));
  }
}

/** Makes the tree of a view. @param draft absolute path of the directory that gets it */
export async function linkToParent(draft: string, [parent]: Stack): Promise<void> {
  await symlink(`../${parent}/fs`, join(draft, 'fs'));
}

/** Makes an empty directory that only we can enter, until it has its attributes. @returns its path */
export async function makeTree(draft: string): Promise<string> {
  const path = join(draft, 'fs');
  await mkdir(path, 0o700);
  return path;
}
