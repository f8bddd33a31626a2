import { step } from '../../lib/fault.ts';
import { blindness, requireVisible } from '../engine-sight.ts';
import type { MountUser } from '../mount.ts';
import type { PoolName, VolumeNumber } from '../names.ts';
import type { Directory, Mounter } from '../ports.ts';
import type { Pool } from './pool.ts';
import type { Place } from './record.ts';

export interface PublisherOptions {
  /**
   * Whether the daemon is a managed plugin. The engine then sees the mount points at a path of its own, and
   * deletes them with the plugin, so that they cannot be immutable.
   */
  readonly managed: boolean;
}

/**
 * Makes volumes appear at their mount points, `POOL-NUMBER` in the directory of mount points, and disappear from
 * them.
 *
 * A mount point is an immutable empty directory: a container that would ever get it with nothing mounted on
 * it cannot write there, so no data can end up beneath a volume.
 */
export class Publisher {
  readonly #mounter: Mounter;
  readonly #mountPoints: Directory;
  readonly #options: PublisherOptions;
  /** Whether an engine was seen whose processes cannot be. */
  #isBlind = false;
  /** The mount points that are known to be as they should be. */
  readonly #prepared = new Set<string>();

  constructor(mounter: Mounter, mountPoints: Directory, options: PublisherOptions) {
    this.#mounter = mounter;
    this.#mountPoints = mountPoints;
    this.#options = options;
  }

  mountPoint(place: Place): string {
    return `${this.#mountPoints.path}/${nameOf(place)}`;
  }

  /** Makes the mount point of a volume that is not mounted; repeating it is fine. */
  async prepare(place: Place): Promise<void> {
    const name = nameOf(place);
    if (this.#prepared.has(name)) return;
    if (!(await this.#mountPoints.exists(name))) {
      // One that a power cut loses is made again here.
      await step('mountpoint.create', () =>
        this.#mountPoints.makeDirectory(name, { mode: 0o700, exist: 'ok', durable: false }),
      );
    }
    // Also of one that exists: an earlier attempt may have ended before this.
    if (!this.#options.managed)
      await step('mountpoint.protect', () => this.#mountPoints.setImmutable(name, true));
    this.#prepared.add(name);
  }

  /**
   * Mounts a volume, once, and makes sure that the engine's process `peer` sees it; 0 is one that we cannot see.
   * @throws FailedPrecondition when the engine cannot see our mounts, or we cannot see who uses them
   */
  async publish(pool: Pool, place: Place, peer: number | undefined): Promise<string> {
    const target = this.mountPoint(place);
    this.noticeEngine(peer);
    this.#requireSight();
    for (const mount of pool.mounts(place.number, target)) {
      // What was removed by hand is made again at the next attempt.
      this.#prepared.delete(nameOf(place));
      await step('publish.mount', () => this.#mounter.mount(mount));
      this.#prepared.add(nameOf(place));
    }
    const look = { target, below: this.#mountPoints.path, elsewhere: this.#options.managed };
    if (peer !== undefined) await requireVisible(this.#mounter, peer, look);
    return target;
  }

  /** Remembers an engine that makes a call from another pid namespace, which shows as process 0. */
  noticeEngine(peer: number | undefined): void {
    if (peer === 0) this.#isBlind = true;
  }

  #requireSight(): void {
    if (this.#isBlind) throw blindness();
  }

  /**
   * Who has the volume mounted, besides its mount point; nobody, when its data directory does not exist.
   * @throws Unavailable when that cannot be known
   */
  async users(pool: Pool, place: Place): Promise<readonly MountUser[]> {
    this.#requireSight();
    return this.#mounter.users(pool.dataPath(place.number), this.mountPoint(place));
  }

  /** Takes a volume from its mount point. The caller has made sure that nobody uses it. */
  async unpublish(place: Place): Promise<void> {
    await step('unpublish.unmount', () => this.#mounter.unmount(this.mountPoint(place)));
  }

  /** Removes the mount point of a volume that is not mounted. */
  async dismantle(place: Place): Promise<void> {
    const name = nameOf(place);
    this.#prepared.delete(name);
    if (!(await this.#mountPoints.exists(name))) return;
    await step('mountpoint.unprotect', () => this.#mountPoints.setImmutable(name, false));
    await step('mountpoint.remove', () => this.#mountPoints.removeDirectory(name));
  }

  /** The volumes that have a mount point. */
  async prepared(): Promise<readonly Place[]> {
    return (await this.#mountPoints.list('.')).flatMap(placeOf);
  }

  /** The volumes that are mounted now. */
  async published(): Promise<readonly Place[]> {
    const prefix = `${this.#mountPoints.path}/`;
    const targets = (await this.#mounter.table()).map(entry => entry.mountPoint);
    return targets
      .filter(target => target.startsWith(prefix))
      .flatMap(target => placeOf(target.slice(prefix.length)));
  }
}

function nameOf({ pool, number }: Place): string {
  return `${pool}-${number}`;
}

function placeOf(name: string): Place[] {
  const [, pool, number] = /^([a-z0-9-]+)-([1-9][0-9]*)$/.exec(name) ?? [];
  return number === undefined ? [] : [{ pool: pool as PoolName, number: Number(number) as VolumeNumber }];
}
