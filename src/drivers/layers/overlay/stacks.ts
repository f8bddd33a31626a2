import { access, close as closeCallback } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Stack } from '../../../core/layers/layer-disk.ts';
import type { LayerKind } from '../../../core/layers/layer-store.ts';
import {
  lowerPath,
  type OverlayUse,
  overlaySource,
  overlayViewOptions,
} from '../../../core/layers/overlay-mounts.ts';
import type { MountSource, MountUser } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import { check } from '../../../host/linux/native.ts';
import { openOverlayView } from '../../../host/linux/overlay.ts';
import { removeXattr } from '../../../host/linux/xattr-calls.ts';
import type { View } from '../archive/archiver.ts';
import { closing } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';
import { hasUpperImage, writableHome } from '../upper-image.ts';
import { completeHardLinks } from './hard-links.ts';
import { layersInUse, layerUser } from './users.ts';

/** How the layers of one store are seen, one on top of the other. */
export interface LayerStacks {
  /** @throws FailedPrecondition when the stack is too high */
  source(stack: Stack, kind: LayerKind): Promise<MountSource>;
  /** Opens what a container would see; nothing is left of it when this process ends. */
  view(stack: Stack): Promise<View>;
  /** Somebody who has a layer mounted, by itself or in a union. @throws Unavailable */
  user(number: LayerNumber): Promise<MountUser | undefined>;
  /** Which of these layers, in their place or in the trash, somebody has mounted. @throws Unavailable */
  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>>;
  /**
   * Makes the files of the first layer say by themselves what differs from those beneath.
   * @throws FailedPrecondition when that is needed, and cannot be done while it is mounted
   */
  settle(stack: Stack): Promise<void>;
}

export interface OverlayStacksParts {
  /** Absolute, without symbolic links. */
  readonly root: string;
  readonly use: OverlayUse;
  readonly userxattr: boolean;
}

const closeFile = promisify(closeCallback);

/** What is beneath a layer that is mounted alone: the kernel wants two. */
export function emptyDirectory(root: string): string {
  return `${root}/empty`;
}

/** Stacks as overlayfs of the kernel shows them. */
export class OverlayStacks implements LayerStacks {
  readonly #parts: OverlayStacksParts;

  constructor(parts: OverlayStacksParts) {
    this.#parts = parts;
  }

  async source(stack: Stack, kind: LayerKind): Promise<MountSource> {
    const directory = this.#directory(stack);
    const apart = await hasUpperImage(directory);
    const home = await writableHome(directory);
    if (kind === 'active' && this.#parts.use === 'volumes' && stack.length > 1) await forgetOrigin(home);
    return overlaySource(stack, { ...this.#parts, kind, home, apart });
  }

  async view(stack: Stack): Promise<View> {
    const { root } = this.#parts;
    const directory = this.#directory(stack);
    const own = join(await writableHome(directory), 'fs');
    const beneath = stack.slice(1).map(number => lowerPath(root, number));
    const isView = beneath.length > 0 && (await exists(join(directory, 'view')));
    const lowers = isView ? [...beneath] : [own, ...beneath];
    // Also for a single layer: in its bare directory the union's attributes would look like the user's.
    if (lowers.length === 1) lowers.push(emptyDirectory(root));
    const fd = await openOverlayView(overlayViewOptions(lowers, this.#parts), root);
    return { fd, close: () => closeFile(fd) };
  }

  user(number: LayerNumber): Promise<MountUser | undefined> {
    return layerUser(this.#parts.root, number);
  }

  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    return layersInUse(this.#parts.root, numbers);
  }

  async settle(stack: Stack): Promise<void> {
    const { root, use } = this.#parts;
    if (use !== 'volumes' || stack.length === 1) return;
    const home = await writableHome(this.#directory(stack));
    await completeHardLinks({ root, home, source: () => this.source(stack, 'active') });
  }

  #directory([number]: Stack): string {
    return join(this.#parts.root, String(number));
  }
}

/**
 * With `index=on` the kernel records in an upper directory on which lower one it stands, and refuses any other
 * (ESTALE); but the one beneath is another when it was merged. It records it anew at the next mount.
 */
async function forgetOrigin(home: string): Promise<void> {
  const ENODATA = 61;
  const top = await openDirectoryView(join(home, 'fs'));
  await closing([top], async () => {
    const result = removeXattr(top.fd, 'trusted.overlay.origin');
    if (result !== -ENODATA) check(result, 'remove an attribute of an upper directory');
  });
}

function exists(path: string): Promise<boolean> {
  return new Promise(resolve => access(path, error => resolve(error === null)));
}
