import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Stack } from '../../../core/layers/layer-disk.ts';
import type { LayerKind } from '../../../core/layers/layer-store.ts';
import { escaped, layerPath } from '../../../core/layers/overlay-mounts.ts';
import type { MountSource, MountUser, OverlaySource } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import { type FuseServer, findFuseServers } from '../../../host/linux/fuse-servers.ts';
import { openFuseView } from '../../../host/linux/fuse-view.ts';
import { parseMountinfo, readMountinfo } from '../../../host/linux/mountinfo.ts';
import { parseOverlay } from '../../../host/linux/overlay-options.ts';
import { step } from '../../../lib/fault.ts';
import type { View } from '../archive/archiver.ts';
import { closing } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';
import type { LayerStacks } from '../overlay/stacks.ts';
import { layersInUse, layerUser } from '../overlay/users.ts';
import { layerAt } from '../trash.ts';
import { writableHome } from '../upper-image.ts';
import { removeOwnMarks } from './tidy.ts';

/**
 * Stacks as fuse-overlayfs(1) shows them. Unlike the kernel it takes any number of layers, and options of any
 * length: they are arguments of a process.
 */
export class FuseStacks implements LayerStacks {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async source(stack: Stack, kind: LayerKind): Promise<MountSource> {
    const [number, ...below] = stack;
    const home = await writableHome(join(this.#root, String(number)));
    const own = `${home}/fs`;
    if (kind === 'active' && below.length > 0) {
      return unionOf(this.#paths(below), [`upperdir=${escaped(own)}`, `workdir=${escaped(`${home}/work`)}`]);
    }
    const shown = kind === 'view' && below.length > 0 ? this.#paths(below) : [own];
    const paths = kind === 'committed' ? this.#paths(stack) : shown;
    const [first = own, ...others] = paths;
    return others.length === 0
      ? { type: 'bind', source: first, readonly: kind !== 'active' }
      : unionOf(paths, []);
  }

  async view(stack: Stack): Promise<View> {
    const [number, ...below] = stack;
    const directory = join(this.#root, String(number));
    const own = `${await writableHome(directory)}/fs`;
    const beneath = this.#paths(below);
    const isView = below.length > 0 && (await exists(join(directory, 'view')));
    const paths = isView ? beneath : [own, ...beneath];
    const [first = own, ...others] = paths;
    if (others.length === 0) return await openDirectoryView(first);
    return await openFuseView(unionOf(paths, []), this.#root);
  }

  async user(number: LayerNumber): Promise<MountUser | undefined> {
    const server = await this.#server(number);
    if (server !== undefined && !(await hasEnded(server))) return server;
    return await layerUser(this.#root, number);
  }

  async inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>> {
    const found = new Map((await findFuseServers()).map(server => [server, this.#layersOf(server)] as const));
    const wanted = new Set(numbers);
    const servers = [...found.keys()].filter(server => found.get(server)?.some(number => wanted.has(number)));
    const haveEnded = await Promise.all(
      servers.map(({ pid, target }) => hasEnded({ pid, mountPoint: target })),
    );
    const served = servers.filter((_, index) => !haveEnded[index]).flatMap(server => found.get(server) ?? []);
    const used = new Set([...served, ...(await layersInUse(this.#root, numbers))]);
    return new Set(numbers.filter(number => used.has(number)));
  }

  /** A layer without any beneath is shown as it is; one that is committed was settled before. */
  async settle([number, ...below]: Stack): Promise<void> {
    const home = await writableHome(join(this.#root, String(number)));
    if (below.length === 0 || !(await exists(join(home, 'work')))) return;
    const own = await openDirectoryView(join(home, 'fs'));
    await closing([own], () => step('fuse.settle', () => removeOwnMarks(own.fd)));
  }

  async #server(number: LayerNumber): Promise<MountUser | undefined> {
    const found = (await findFuseServers()).find(server => this.#layersOf(server).includes(number));
    return found && { pid: found.pid, mountPoint: found.target };
  }

  /** The paths of a server are those that it was started with, wherever a layer has been moved since. */
  #layersOf({ options }: FuseServer): readonly LayerNumber[] {
    const { lowers, upper } = parseOverlay(options);
    return [...(upper === undefined ? [] : [upper]), ...lowers].flatMap(path => {
      const start = `${this.#root}/`;
      return (path.startsWith(start) ? layerAt(path.slice(start.length)) : undefined) ?? [];
    });
  }

  #paths(stack: readonly LayerNumber[]): readonly string[] {
    return stack.map(number => layerPath(this.#root, number));
  }
}

/** Milliseconds that the process of a union needs to end when its last mount is gone. */
const endingTakes = 500;

/** Waits for one that is about to end: its mount is not in our namespace, and perhaps in no other. */
async function hasEnded({ pid, mountPoint }: MountUser): Promise<boolean> {
  const isMountedHere = parseMountinfo(readMountinfo('self')).some(entry => entry.mountPoint === mountPoint);
  const deadline = performance.now() + (isMountedHere ? 0 : endingTakes);
  while (performance.now() < deadline) {
    if (!(await findFuseServers()).some(server => server.pid === pid)) return true;
    await pause(10);
  }
  return false;
}

/** @param upper where it can be written to, if anywhere */
export function unionOf(lowers: readonly string[], upper: readonly string[]): OverlaySource {
  return { type: 'fuse-overlayfs', options: [...upper, `lowerdir=${lowers.map(escaped).join(':')}`] };
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
