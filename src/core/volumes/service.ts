import { AlreadyExists, FailedPrecondition, messageOf, NotFound } from '../../errors/errors.ts';
import { type Held, KeyedLock } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/log.ts';
import type { DriverName, MountId, VolumeName } from '../names.ts';
import type { Catalog, Volume } from './catalog.ts';
import { mounted, settled, startMs, unconfirmed, unmounted } from './consumers.ts';
import { type Copies, checkReady } from './copies.ts';
import type { Creator } from './creator.ts';
import type { Driver } from './driver.ts';
import { givenOptions } from './options.ts';
import type { Pool } from './pool.ts';
import type { Pools, UnrecordedVolume } from './pools.ts';
import type { Publisher } from './publisher.ts';
import { isOf, manifestOf, samePlace } from './record.ts';
import type { Trash } from './trash.ts';

export interface VolumeServiceParts {
  readonly catalog: Catalog;
  readonly pools: Pools;
  readonly publisher: Publisher;
  readonly copies: Copies;
  readonly creator: Creator;
  readonly trash: Trash;
  readonly clock: { now(): Date };
  readonly log: Logger;
}

/** How long a call waits for another one on the same volume, and Create for its copy, in milliseconds. */
export interface Waits {
  readonly lockMs: number;
  readonly copyMs: number;
}

const defaultWaits: Waits = { lockMs: 5000, copyMs: 4000 };

/**
 * Volumes and who uses them. Every operation that changes a volume holds the lock of its name; questions are
 * answered from memory without one. Each is safe to repeat, and each can be interrupted at any instant: the
 * record says what was meant, and the next start carries it out.
 */
export class VolumeService {
  readonly #parts: VolumeServiceParts;
  readonly #waits: Waits;
  readonly #lock = new KeyedLock<VolumeName>();
  #unrecorded: ReadonlyMap<VolumeName, UnrecordedVolume> = new Map();

  constructor(parts: VolumeServiceParts, waits = defaultWaits) {
    this.#parts = parts;
    this.#waits = waits;
  }

  /** Runs `act` while no other operation changes the volume. @throws DeadlineExceeded */
  exclusively<T>(name: VolumeName, act: (held: Held<VolumeName>) => Promise<T>): Promise<T> {
    return this.#lock.with(name, this.#waits.lockMs, act);
  }

  /**
   * Makes a volume, or finds the one that the same options made. A copy that takes longer than `copyMs`
   * milliseconds goes on in the background.
   * @throws InvalidArgument, AlreadyExists, Unimplemented, Unavailable, Exhausted
   */
  async create(
    name: VolumeName,
    driver: Driver,
    options: Readonly<Record<string, string>>,
    copyMs = this.#waits.copyMs,
  ): Promise<Volume> {
    this.#checkRecorded(name);
    const { creator, copies } = this.#parts;
    const volume = await this.exclusively(name, held =>
      creator.create(held, name, driver, givenOptions(options)),
    );
    await copies.settle(name, copyMs);
    const { phase, failure } = volume.record;
    if (phase !== 'Failed') return volume;
    await this.exclusively(name, async held => {
      // Another call may have discarded it meanwhile, or begun it again.
      const isStill = this.#parts.catalog.find(name) === volume && volume.record.phase === 'Failed';
      if (isStill) await this.#discard(held, volume, 'engine');
    });
    throw new FailedPrecondition(`volume ${name} was not made: ${failure}`);
  }

  /**
   * Removes a volume and its data. An engine's own counts do not hold it, since engines forget to unmount and
   * look at their own references first; a mount in any mount namespace does. A person is also told of a container
   * that may just be starting. @throws NotFound, FailedPrecondition, Unavailable
   */
  remove(name: VolumeName, asker: 'engine' | 'person'): Promise<void> {
    this.#checkRecorded(name);
    return this.exclusively(name, async held => {
      const volume = this.#parts.catalog.get(name);
      if (volume.record.protected) {
        throw new FailedPrecondition(
          `volume ${name} is protected; run \`varve volume unprotect ${name}\` first if its data may go`,
        );
      }
      await this.#discard(held, volume, asker);
      this.#parts.log.info(`volume ${name} removed`);
    });
  }

  /**
   * Records a consumer and mounts the volume for it. `peer` is the process id of the engine, if known.
   * @returns the mount point
   */
  mount(name: VolumeName, id: MountId, peer?: number): Promise<string> {
    this.#checkRecorded(name);
    return this.exclusively(name, async held => {
      const { catalog, clock } = this.#parts;
      const volume = catalog.get(name);
      checkReady(volume);
      const before = volume.consumers;
      await catalog.saveConsumers(volume, mounted(before, id, clock.now().getTime()));
      try {
        return await this.publish(held, volume, peer);
      } catch (error) {
        // An engine sends no Unmount after a Mount that failed.
        await catalog.saveConsumers(volume, before);
        await this.releaseUnused(held, volume);
        throw error;
      }
    });
  }

  /** Forgets a consumer, and unmounts the volume when nobody uses it any more. */
  unmount(name: VolumeName, id: MountId): Promise<void> {
    return this.exclusively(name, async held => {
      const volume = this.#parts.catalog.get(name);
      await this.#parts.catalog.saveConsumers(volume, unmounted(volume.consumers, id));
      await this.releaseUnused(held, volume);
    });
  }

  /** Mounts a volume on its mount point, whoever it is for. */
  async publish(_held: Held<VolumeName>, volume: Volume, peer?: number): Promise<string> {
    const { pools, publisher } = this.#parts;
    const { record } = volume;
    const pool = pools.get(record.pool);
    await pools.probe(pool);
    await this.#checkPlace(pool, volume);
    try {
      if (!volume.isMounted) await publisher.prepare(record);
      const target = await publisher.publish(pool, record, peer);
      volume.isMounted = true;
      volume.isUsageStale = true;
      return target;
    } catch (error) {
      // It may have come as far as the mount.
      volume.isMounted = (await publisher.published()).some(place => samePlace(place, record));
      throw error;
    }
  }

  /**
   * Unmounts a volume that no consumer can have any more, unless a mount namespace still has it, or its pool is
   * not there and nobody can tell: then it stays until the keeper finds it unused. Never rejects: whoever asked
   * has already let go.
   */
  async releaseUnused(_held: Held<VolumeName>, volume: Volume): Promise<void> {
    const { catalog, pools, publisher, clock, log } = this.#parts;
    const evidence = { inUse: false, disowned: false, nowMs: clock.now().getTime() };
    const left = settled(volume.consumers, evidence);
    if (left.size > 0 || !volume.isMounted) return;
    const { name } = volume.record;
    try {
      const pool = pools.get(volume.record.pool);
      await pools.probe(pool);
      const users = await publisher.users(pool, volume.record);
      if (users.length > 0) return;
      await catalog.saveConsumers(volume, left);
      await publisher.unpublish(volume.record);
      volume.isMounted = false;
    } catch (error) {
      log.warn(`volume ${name} stays mounted for now: ${messageOf(error)}`);
    }
  }

  /** Sets or lifts the protection against removal. */
  protect(name: VolumeName, isProtected: boolean): Promise<Volume> {
    this.#checkRecorded(name);
    return this.exclusively(name, async () => {
      const { catalog, pools } = this.#parts;
      const volume = catalog.get(name);
      if (volume.record.phase === 'Ready') await this.#checkPlace(pools.get(volume.record.pool), volume);
      if (volume.record.protected !== isProtected) {
        await catalog.save(volume, { ...volume.record, protected: isProtected });
      }
      // Also when nothing changes: an earlier attempt may have ended before this. A volume that is being made
      // has its manifest brought up to date when it is whole.
      if (volume.record.phase === 'Ready') {
        await pools.get(volume.record.pool).writeManifest(manifestOf(volume.record));
      }
      return volume;
    });
  }

  /** The engine of a driver has started anew: what it told before may no longer hold. */
  async activate(driver: DriverName): Promise<void> {
    const { catalog, log } = this.#parts;
    const volumes = catalog
      .all()
      .filter(({ record, consumers }) => record.driver === driver && consumers.size > 0);
    const doubt = (volume: Volume): Promise<void> =>
      this.exclusively(volume.record.name, async () => {
        if (catalog.find(volume.record.name) !== volume) return;
        await catalog.saveConsumers(volume, unconfirmed(volume.consumers));
      });
    // One volume that hangs must not keep the engine from all others.
    for (const outcome of await Promise.allSettled(volumes.map(doubt))) {
      if (outcome.status === 'rejected')
        log.warn(`the consumers of a volume stay confirmed: ${messageOf(outcome.reason)}`);
    }
  }

  /** A volume by name; with `driver`, only if it is one of that driver. @throws NotFound */
  get(name: VolumeName, driver?: DriverName): Volume | UnrecordedVolume {
    const found = this.#parts.catalog.find(name) ?? this.#unrecorded.get(name);
    if (found === undefined || (driver !== undefined && driverOf(found) !== driver)) {
      throw new NotFound(`no such volume: ${name}`);
    }
    return found;
  }

  /** All volumes, of one driver or of all, in the order of their names. */
  list(driver?: DriverName): readonly (Volume | UnrecordedVolume)[] {
    const { catalog } = this.#parts;
    const unrecorded = [...this.#unrecorded.values()].filter(({ manifest }) => !catalog.find(manifest.name));
    return [...catalog.all(), ...unrecorded]
      .filter(volume => driver === undefined || driverOf(volume) === driver)
      .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  }

  /** Where a volume is mounted now; empty when it is not. */
  mountPoint(volume: Volume): string {
    return volume.isMounted ? this.#parts.publisher.mountPoint(volume.record) : '';
  }

  /** What the disks hold and the records do not: shown, and its names kept from being used. */
  quarantine(unrecorded: readonly UnrecordedVolume[]): void {
    const { catalog } = this.#parts;
    const hidden = unrecorded.filter(({ manifest }) => catalog.find(manifest.name) === undefined);
    this.#unrecorded = new Map(hidden.map(volume => [volume.manifest.name, volume]));
  }

  /**
   * Makes sure, once, that what stands in a volume's place is that volume: with an old database it may be a later one.
   */
  async #checkPlace(pool: Pool, volume: Volume): Promise<void> {
    if (volume.isPlaceChecked) return;
    const { record } = volume;
    const found = await pool.read(record.number);
    if ('manifest' in found && !isOf(found.manifest, record)) {
      throw new FailedPrecondition(
        `the place of volume ${record.name} (${pool.dataPath(record.number)}) holds another one, ${found.manifest.name}: ` +
          'the state database is probably an old one; stop the daemon, move the database away, and run `varve state rebuild`',
      );
    }
    volume.isPlaceChecked = true;
  }

  /** Between the answer to Mount and the start of the container no mount table shows that the volume is needed. */
  #checkNobodyStarts({ record, consumers }: Volume): void {
    const now = this.#parts.clock.now().getTime();
    if (![...consumers.values()].some(({ sinceMs }) => now - sinceMs < startMs)) return;
    throw new FailedPrecondition(
      `volume ${record.name} was mounted a moment ago, and its container may be starting; stop the container, ` +
        'or try again in two minutes',
    );
  }

  async #discard(_held: Held<VolumeName>, volume: Volume, asker: 'engine' | 'person'): Promise<void> {
    const { catalog, pools, publisher, copies, trash } = this.#parts;
    const { record } = volume;
    const pool = pools.get(record.pool);
    await pools.probe(pool);
    const [user] = await publisher.users(pool, record);
    if (user !== undefined) {
      throw new FailedPrecondition(
        `volume ${record.name} is in use: process ${user.pid} has it mounted on ${user.mountPoint}; stop that first`,
      );
    }
    if (asker === 'person') this.#checkNobodyStarts(volume);
    await this.#checkPlace(pool, volume);
    await copies.cancel(record.name);
    await publisher.unpublish(record);
    volume.isMounted = false;
    await catalog.delete(volume);
    trash.nudge();
  }

  /** @throws AlreadyExists for a volume that only the disk knows */
  #checkRecorded(name: VolumeName): void {
    const found = this.#unrecorded.get(name);
    if (found === undefined || this.#parts.catalog.find(name) !== undefined) return;
    throw new AlreadyExists(
      `volume ${name} is on the disk (pool ${found.pool}, number ${found.number}) but not in the records; ` +
        'stop the daemon and run `varve state rebuild` to get it back',
    );
  }
}

function driverOf(volume: Volume | UnrecordedVolume): string {
  return 'record' in volume ? volume.record.driver : volume.manifest.driver;
}

function nameOf(volume: Volume | UnrecordedVolume): string {
  return 'record' in volume ? volume.record.name : volume.manifest.name;
}
