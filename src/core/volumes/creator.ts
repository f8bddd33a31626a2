import {
  Aborted,
  AlreadyExists,
  InvalidArgument,
  messageOf,
  NotFound,
  Unimplemented,
} from '../../errors/errors.ts';
import { within } from '../../lib/deadline.ts';
import type { Held } from '../../lib/keyed-lock.ts';
import type { DriverName, VolumeName } from '../names.ts';
import type { Clock, CopyProgress, Disk } from '../ports.ts';
import type { Catalog, Volume } from './catalog.ts';
import type { Copies } from './copies.ts';
import type { Driver } from './driver.ts';
import { describeDifference, parseOptions, type VolumeRequest } from './options.ts';
import type { Pool, VolumeManifest } from './pool.ts';
import type { Pools } from './pools.ts';
import type { Publisher } from './publisher.ts';
import { manifestOf, sameManifest } from './record.ts';
import type { Trash } from './trash.ts';

/** How long the root of a pool has to say where it is, in milliseconds. */
const patienceMs = 2000;

export interface CreatorParts {
  readonly catalog: Catalog;
  readonly pools: Pools;
  readonly publisher: Publisher;
  readonly copies: Copies;
  readonly disk: Disk;
  readonly trash: Trash;
  readonly clock: Clock;
  /** The directory of all data: nothing that holds it can be copied into a volume. */
  readonly root: string;
  /** Whether the daemon sees the directories of the host: in a managed plugin it sees those of its own image. */
  readonly hostPaths: boolean;
}

/**
 * Makes volumes: the record first, in phase Creating, then the bytes, then phase Ready. Whatever ends it in
 * between, {@link resume} finishes it.
 */
export class Creator {
  readonly #parts: CreatorParts;

  constructor(parts: CreatorParts) {
    this.#parts = parts;
  }

  /**
   * Makes a volume, or answers with the one that the same options made before.
   * @throws AlreadyExists when it exists with other options, and says which
   */
  async create(
    _held: Held<VolumeName>,
    name: VolumeName,
    driver: Driver,
    options: Record<string, string>,
  ): Promise<Volume> {
    const request = parseOptions({ ...driver.options, ...options });
    const existing = this.#parts.catalog.find(name);
    if (existing !== undefined) return this.#again(existing, driver.name, options);
    const pool = this.#parts.pools.choose(request, driver.pool);
    // The disk may have been away until now, and its volumes be newer than the records.
    this.#parts.catalog.reserveNumbers(await this.#parts.pools.numbers(pool));
    await this.#checkSource(request);
    const volume = await this.#parts.catalog.add({
      name,
      driver: driver.name,
      pool: pool.name,
      options,
      defaults: driver.options,
      createdAt: this.#parts.clock.now().toISOString(),
      protected: request.protect,
      phase: 'Creating',
    });
    try {
      await this.#make(volume, pool, request);
    } catch (error) {
      // The caller's error means that nothing was created.
      await this.#parts.catalog.delete(volume, { isPlaceOurs: !(error instanceof AlreadyExists) });
      this.#parts.trash.nudge();
      throw error;
    }
    return volume;
  }

  /** Finishes a volume whose making was interrupted; one that is finished, or being copied, is left alone. */
  async resume(_held: Held<VolumeName>, volume: Volume): Promise<void> {
    if (this.#parts.catalog.find(volume.record.name) !== volume || !isInterrupted(volume)) return;
    const { defaults, options, pool: poolName } = volume.record;
    const pool = this.#parts.pools.get(poolName);
    await this.#parts.pools.probe(pool);
    await this.#make(volume, pool, parseOptions({ ...defaults, ...options }));
  }

  async #again(volume: Volume, driver: DriverName, options: Record<string, string>): Promise<Volume> {
    const { record } = volume;
    if (record.driver !== driver) {
      throw new AlreadyExists(
        `volume ${record.name} exists already, of driver ${record.driver}; choose another name`,
      );
    }
    const difference = describeDifference(record.options, options);
    if (difference !== '') {
      throw new AlreadyExists(
        `volume ${record.name} exists already with other options (${difference}); remove it first, or choose another name`,
      );
    }
    const request = parseOptions({ ...record.defaults, ...record.options });
    if (record.phase === 'Failed') {
      await this.#checkSource(request);
      const { failure: _, ...rest } = record;
      await this.#parts.catalog.save(volume, { ...rest, phase: 'Creating' });
    }
    if (isInterrupted(volume)) {
      const pool = this.#parts.pools.get(record.pool);
      await this.#parts.pools.probe(pool);
      await this.#make(volume, pool, request);
    }
    return volume;
  }

  async #make(volume: Volume, pool: Pool, request: VolumeRequest): Promise<void> {
    if (request.fromPath !== undefined) {
      this.#checkHostPaths(request.fromPath);
      this.#startCopy(volume, pool, request, request.fromPath);
      return;
    }
    const manifest = manifestOf(volume.record);
    await pool.create(manifest, request.attributes);
    await this.#finish(volume, pool, manifest);
  }

  #startCopy(volume: Volume, pool: Pool, request: VolumeRequest, source: string): void {
    this.#parts.copies.start(volume, async (signal, onProgress: (progress: CopyProgress) => void) => {
      try {
        const manifest = manifestOf(volume.record);
        await pool.createFrom(manifest, request.attributes, source, { signal, onProgress });
        await this.#finish(volume, pool, manifest);
      } catch (error) {
        if (!(error instanceof Aborted)) {
          await this.#parts.catalog.save(volume, {
            ...volume.record,
            phase: 'Failed',
            failure: messageOf(error),
          });
        }
        throw error;
      }
    });
  }

  async #finish(volume: Volume, pool: Pool, written: VolumeManifest): Promise<void> {
    const { catalog, publisher } = this.#parts;
    await publisher.prepare(volume.record);
    // A copy takes its time, and the record may have been changed meanwhile.
    const manifest = manifestOf(volume.record);
    if (!sameManifest(written, manifest)) await pool.writeManifest(manifest);
    await catalog.save(volume, { ...volume.record, phase: 'Ready' });
    volume.isPlaceChecked = true;
  }

  #checkHostPaths(fromPath: string): void {
    if (this.#parts.hostPaths) return;
    throw new Unimplemented(
      `from-path=${fromPath} names a directory of the host, which a managed plugin cannot see; ` +
        'copy the files in with a container, or install varve as a host package',
    );
  }

  async #checkSource({ fromPath }: VolumeRequest): Promise<void> {
    if (fromPath === undefined) return;
    this.#checkHostPaths(fromPath);
    const { root, disk, pools } = this.#parts;
    const source = await disk.realDirectory(fromPath);
    if (source === undefined) {
      throw new NotFound(`from-path ${fromPath} is not a directory of this host; nothing was created`);
    }
    const ours = [root, ...pools.all().map(pool => pool.root)];
    // A pool whose disk fails or hangs must not stop a volume of another: its path stands for itself.
    const real = await Promise.all(
      ours.map(async path => {
        const found = within(patienceMs, `${path} does not answer`, () => disk.realDirectory(path));
        return (await found.catch(() => undefined)) ?? path;
      }),
    );
    const inside = real.find(path => `${path}/`.startsWith(source === '/' ? '/' : `${source}/`));
    if (inside !== undefined) {
      throw new InvalidArgument(
        `from-path ${fromPath} holds varve's own data (${inside}); name a directory that does not`,
      );
    }
  }
}

/** Whether a volume is half made and nobody is at it; true only for who holds its lock. */
export function isInterrupted({ record, progress }: Volume): boolean {
  return record.phase === 'Creating' && progress === null;
}
