import { messageOf, Unimplemented } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import type { Logger } from '../../lib/log.ts';
import { blindness, requireVisible } from '../engine-sight.ts';
import type { MountSource } from '../mount.ts';
import type { DriverName } from '../names.ts';
import type { Change, Directory, Mounter, ObjectStore } from '../ports.ts';
import { type GraphId, parseGraphId } from './graph-names.ts';

export interface GraphMountParts {
  readonly driver: DriverName;
  readonly mounter: Mounter;
  /** The directory of the mount points, which has nothing else in it. */
  readonly mountPoints: Directory;
  /** Where counts outlive the daemon, and end with the boot, as mounts do. */
  readonly bootStore: ObjectStore;
  readonly log: Logger;
}

/** What shows a layer, asked for only when it is not mounted yet. */
export type Sources = () => Promise<readonly MountSource[]>;

export interface Holder {
  /** The process of the engine, if it can be known. */
  readonly peer: number | undefined;
  /** SELinux context of what is mounted; empty for none. The first holder decides. */
  readonly label: string;
}

/**
 * The mount points that an engine was given, and how many of its uses each has: it mounts once for each id, and takes
 * the mount away with the last use. Who calls holds the lock of the id.
 *
 * A mount without a count has one use, as in dockerd's own drivers (moby, daemon/graphdriver/counter.go): an engine
 * that started anew knows of its containers, and of nothing else that it was doing. A use whose answer got lost, as
 * when this process is killed, lasts until the layer is removed or the engine starts anew.
 */
export class GraphMounts {
  readonly #parts: GraphMountParts;

  constructor(parts: GraphMountParts) {
    this.#parts = parts;
  }

  pathOf(id: GraphId): string {
    return `${this.#parts.mountPoints.path}/${id}`;
  }

  async isHeld(id: GraphId): Promise<boolean> {
    return (await this.#count(id)) > 0;
  }

  /**
   * Adds a use. @returns the mount point
   * @throws FailedPrecondition when the engine does not see it, Unimplemented when it cannot get the label
   */
  async hold(id: GraphId, { peer, label }: Holder, sources: Sources): Promise<string> {
    const count = await this.#count(id);
    const target = this.pathOf(id);
    try {
      if (count === 0 || !(await this.#isMounted(id))) await this.#begin(id, label, sources);
      if (peer === 0) throw blindness();
      const look = { target, below: this.#parts.mountPoints.path, elsewhere: false };
      if (peer !== undefined) await requireVisible(this.#parts.mounter, peer, look);
      await this.#save(id, count + 1);
    } catch (error) {
      if (count === 0) await this.drop(id);
      throw error;
    }
    return target;
  }

  /** Also when there is none left. */
  async isLastUse(id: GraphId): Promise<boolean> {
    return (await this.#count(id)) <= 1;
  }

  /** Ends a use that is not the last. */
  async release(id: GraphId): Promise<void> {
    await this.#save(id, (await this.#count(id)) - 1);
  }

  /** @throws FailedPrecondition when somebody is writing there */
  async makeReadonly(id: GraphId): Promise<void> {
    if (!(await this.#isMounted(id))) return;
    const path = this.pathOf(id);
    await step('graph.protect', () =>
      this.#parts.mounter.mount({ type: 'bind', source: path, target: path, readonly: true }),
    );
  }

  /** Mounts again what is mounted and answers no more. @throws NotFound when its mount point is gone */
  async mountAnew(id: GraphId, sources: readonly MountSource[]): Promise<void> {
    const target = this.pathOf(id);
    for (const source of sources) {
      await step('graph.mount', () => this.#parts.mounter.mount({ ...source, target }));
    }
  }

  /**
   * Takes a layer from its mount point, whoever uses it. The directory goes too: the kernel then takes the copies of
   * the mount from all other namespaces, which would keep the layer busy (moby#34948).
   */
  async drop(id: GraphId): Promise<void> {
    const { mounter, mountPoints, log } = this.#parts;
    await this.#save(id, 0);
    await step('graph.unmount', () => mounter.unmount(this.pathOf(id), { detach: true }));
    await step('graph.remove-mount-point', () => mountPoints.removeDirectory(id)).catch((error: unknown) => {
      // Something was written there while nothing was mounted: the next mount hides it, and it harms nobody.
      log.warn(`the mount point ${this.pathOf(id)} is left: ${messageOf(error)}`);
    });
  }

  /** An engine has started anew: it holds what is mounted, each once. */
  async forgetUses(): Promise<void> {
    const { bootStore } = this.#parts;
    const stored = await bootStore.list(this.#prefix);
    if (stored.length === 0) return;
    const changes = stored.map(({ key }) => ({ type: 'delete', key }) as const);
    await step('graph.forget-uses', () => bootStore.transaction([], changes));
  }

  /** All ids that have a mount point. */
  async ids(): Promise<readonly GraphId[]> {
    return (await this.#parts.mountPoints.list('.')).flatMap(name => {
      try {
        return [parseGraphId(name)];
      } catch {
        // Not ours, such as `lost+found`.
        return [];
      }
    });
  }

  async #begin(id: GraphId, label: string, sources: Sources): Promise<void> {
    const { mountPoints } = this.#parts;
    const shown = (await sources()).map(source => labelled(source, label));
    if (!(await mountPoints.exists(id))) {
      await step('graph.mount-point', () =>
        mountPoints.makeDirectory(id, { mode: 0o700, exist: 'ok', durable: false }),
      );
    }
    await this.mountAnew(id, shown);
  }

  async #count(id: GraphId): Promise<number> {
    const stored = await this.#parts.bootStore.get(this.#key(id));
    if (stored !== undefined) return stored.value as number;
    return (await this.#isMounted(id)) ? 1 : 0;
  }

  async #isMounted(id: GraphId): Promise<boolean> {
    const target = this.pathOf(id);
    return (await this.#parts.mounter.table()).some(({ mountPoint }) => mountPoint === target);
  }

  async #save(id: GraphId, count: number): Promise<void> {
    const key = this.#key(id);
    const change: Change = count === 0 ? { type: 'delete', key } : { type: 'put', key, value: count };
    await step('graph.count', () => this.#parts.bootStore.transaction([], [change]));
  }

  get #prefix(): string {
    return `graph/${this.#parts.driver}/`;
  }

  #key(id: GraphId): string {
    return `${this.#prefix}${id}`;
  }
}

/** @throws Unimplemented: only overlayfs gives all that it shows another context than it has on the disk */
function labelled(source: MountSource, label: string): MountSource {
  if (label === '') return source;
  if (source.type === 'overlay') return { ...source, options: [...source.options, `context=${label}`] };
  throw new Unimplemented(
    `varve cannot give the SELinux label ${label} to a layer that is shown by ${source.type}; keep the layer store with the driver overlay, or start the container with --security-opt label=disable`,
  );
}
