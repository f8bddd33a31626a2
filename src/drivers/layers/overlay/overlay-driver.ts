import { access, chmod, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerAbilities, Stack } from '../../../core/layers/layer-disk.ts';
import type { LayerKind, Limit } from '../../../core/layers/layer-store.ts';
import type { MountSource } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import type { Usage } from '../../../core/ports.ts';
import { FailedPrecondition } from '../../../errors/errors.ts';
import { step } from '../../../lib/fault.ts';
import type { Archiver, DeltaPrefix, OpenTree, View } from '../archive/archiver.ts';
import { copyDirectoryAttributes } from '../archive/union-attributes.ts';
import { closeAll, closing, openAll } from '../comparison.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { openDirectoryView } from '../directory-view.ts';
import type { LayerDriver, MakePlan } from '../driver.ts';
import { refuseLimitInUse } from '../limit-in-use.ts';
import {
  attachUpperImage,
  dropUpperImage,
  hasUpperImage,
  makeUpperImage,
  retireUpperImage,
  writableHome,
} from '../upper-image.ts';
import { hasLink, makeLink, removeDanglingLink } from './links.ts';
import type { LayerStacks } from './stacks.ts';

export interface OverlayDriverParts {
  readonly name: 'overlay' | 'fuse-overlayfs';
  /** Absolute, without symbolic links. */
  readonly root: string;
  readonly archiver: Archiver;
  readonly stacks: LayerStacks;
  readonly prefix: DeltaPrefix;
  /** Whether directories may be renamed in a layer, so that it says where they are beneath. */
  readonly redirects: boolean;
}

/**
 * Layers as overlayfs of the kernel has them, and its counterpart in user space. In `ROOT/7` are `fs`, the files that
 * the layer itself changed; `work`, while it is writable; and with a limit `upper`, a file system of its own that has
 * these two until the layer is committed. A view over others is marked by the file `view`. `ROOT/l` has a short link to each layer.
 */
export class OverlayDriver implements LayerDriver {
  readonly name: string;
  readonly abilities: LayerAbilities = {
    limits: ['bytes', 'inodes'],
    snapshot: 'constant',
    freezesInUse: false,
  };
  readonly #root: string;
  readonly #archiver: Archiver;
  readonly #stacks: LayerStacks;
  readonly #prefix: DeltaPrefix;
  readonly #redirects: boolean;

  constructor(parts: OverlayDriverParts) {
    this.name = parts.name;
    this.#root = parts.root;
    this.#archiver = parts.archiver;
    this.#stacks = parts.stacks;
    this.#prefix = parts.prefix;
    this.#redirects = parts.redirects;
  }

  async make(draft: string, below: Stack | null, { kind, limit }: MakePlan): Promise<void> {
    if (kind === 'active' && limit !== null) await makeUpperImage(draft, limit);
    const home = await writableHome(draft);
    await mkdir(join(home, 'fs'), { mode: 0o700 });
    if (kind === 'active') await mkdir(join(home, 'work'), { mode: 0o700 });
    else if (below !== null) await mkdir(join(draft, 'view'), { mode: 0o700 });
    // Not by mkdir(2), which takes the daemon's umask from it.
    if (below === null) return await chmod(join(home, 'fs'), 0o755);
    const views = await openAll(
      () => openDirectoryView(`${this.#root}/${below[0]}/fs`),
      () => openDirectoryView(join(home, 'fs')),
    );
    await closing(views, async () => copyDirectoryAttributes(views[0].fd, views[1].fd, this.#prefix));
  }

  async placed([number]: Stack, kind: LayerKind): Promise<void> {
    const directory = this.#directory(number);
    await step('overlay.link', () => makeLink(this.#root, number));
    if (kind === 'active' && (await hasUpperImage(directory))) await attachUpperImage(directory);
    if (kind !== 'committed') return;
    // What sealing copied out of it counts from now on.
    await step('overlay.drop-image', () => retireUpperImage(directory));
    await step('overlay.drop-work', () => deleteDirectory(join(directory, 'work')));
  }

  async isPlaced([number]: Stack, kind: LayerKind): Promise<boolean> {
    if (!(await hasLink(this.#root, number))) return false;
    const names = await readdir(this.#directory(number));
    const unsettled = kind === 'committed' ? ['upper.img', 'upper', 'work'] : ['upper.img'];
    return !unsettled.some(name => names.includes(name));
  }

  async mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]> {
    return [await this.#stacks.source(stack, kind)];
  }

  async open(stack: Stack): Promise<OpenTree> {
    const [number, ...below] = stack;
    await this.#stacks.settle(stack);
    const views = await openAll(() => this.#openOwn(number), ...this.#viewsBeneath(below));
    return {
      fd: views[0].fd,
      form: { type: 'delta', prefix: this.#prefix },
      directory: this.#directory(number),
      below: views[1] ?? null,
      close: () => closeAll(views),
    };
  }

  async view(stack: Stack): Promise<View> {
    await this.#stacks.settle(stack);
    return await this.#stacks.view(stack);
  }

  async seal(stack: Stack): Promise<void> {
    const [number] = stack;
    if (!(await hasUpperImage(this.#directory(number)))) return await this.#stacks.settle(stack);
    await this.#whileIdle(number, 'commit', () => this.#copyOut(stack));
  }

  async usage([number]: Stack, signal?: AbortSignal): Promise<Usage> {
    const own = await this.#openOwn(number);
    return await closing([own], () => this.#archiver.measure(own, signal));
  }

  async freeze(stack: Stack, draft: string, limit: Limit | null): Promise<'writable'> {
    await this.#whileIdle(stack[0], 'freeze', () => this.seal(stack));
    await step('overlay.make-next', () => this.make(draft, stack, { kind: 'active', limit }));
    return 'writable';
  }

  async limit(): Promise<never> {
    throw refuseLimitInUse(this.name);
  }

  async merge(stack: Stack, draft: string): Promise<boolean> {
    const [upper, lower] = stack;
    if (lower === undefined) return false;
    const directory = this.#directory(upper);
    await this.#requireMergeable(directory, upper, lower);
    const isWritable = await exists(join(directory, 'work'));
    await mkdir(join(draft, 'fs'), { mode: 0o700 });
    if (isWritable) await mkdir(join(draft, 'work'), { mode: 0o700 });
    const merge = () => this.#merge([upper, lower, ...stack.slice(2)], join(draft, 'fs'));
    await (isWritable ? this.#whileIdle(upper, 'merge', merge) : merge());
    return true;
  }

  async #merge(stack: readonly [LayerNumber, ...Stack], target: string): Promise<void> {
    const [upper, lower, ...below] = stack;
    await this.#stacks.settle(stack);
    const views = await openAll(
      () => this.#openOwn(upper),
      () => this.#openOwn(lower),
      () => openDirectoryView(target),
      ...this.#viewsBeneath(below),
    );
    const [above, beneath, into, bottom = null] = views;
    const deltas = { upper: above, lower: beneath, below: bottom, into, prefix: this.#prefix };
    await closing(views, () => this.#archiver.merge({ ...deltas, redirects: this.#redirects }));
  }

  async #requireMergeable(directory: string, upper: LayerNumber, lower: LayerNumber): Promise<void> {
    if (await exists(join(directory, 'view'))) {
      throw new FailedPrecondition(
        `cannot merge layer ${lower} into layer ${upper}: that is a view of it; remove the view first`,
      );
    }
    if (await hasUpperImage(directory)) {
      throw new FailedPrecondition(
        `cannot merge layer ${lower} into layer ${upper}: that has a limit, and files of its own file system; freeze it first`,
      );
    }
  }

  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    return this.#stacks.inUse(numbers);
  }

  async delete(directory: string): Promise<void> {
    await dropUpperImage(directory);
    await deleteDirectory(directory);
    await removeDanglingLink(this.#root, directory);
  }

  async close(): Promise<void> {}

  /** Copies the files out of the image, which stays the layer's until it is committed. */
  async #copyOut(stack: Stack): Promise<void> {
    const target = join(this.#directory(stack[0]), 'fs');
    await this.#stacks.settle(stack);
    await step('overlay.copy-out', async () => {
      await deleteDirectory(target);
      await mkdir(target, { mode: 0o700 });
      const views = await openAll(
        () => this.#openOwn(stack[0]),
        () => openDirectoryView(target),
      );
      await closing(views, () => this.#archiver.copy(views[0], views[1], {}));
    });
  }

  /** Looks for users before and after: what who came meanwhile wrote may be missing in what was made. */
  async #whileIdle(number: LayerNumber, verb: string, act: () => Promise<void>): Promise<void> {
    await this.#requireIdle(number, verb);
    await act();
    await this.#requireIdle(number, verb);
  }

  async #requireIdle(number: LayerNumber, verb: string): Promise<void> {
    const user = await this.#stacks.user(number);
    if (user === undefined) return;
    throw new FailedPrecondition(
      `cannot ${verb} layer ${number}: process ${user.pid} has it mounted on ${user.mountPoint}; unmount it first`,
    );
  }

  /** What opens it; nothing when nothing is beneath. */
  #viewsBeneath([first, ...others]: readonly LayerNumber[]): readonly (() => Promise<View>)[] {
    return first === undefined ? [] : [() => this.#stacks.view([first, ...others])];
  }

  async #openOwn(number: LayerNumber): Promise<View> {
    return await openDirectoryView(join(await writableHome(this.#directory(number)), 'fs'));
  }

  #directory(number: LayerNumber): string {
    return join(this.#root, String(number));
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
