import { NotFound, Unavailable, Unimplemented } from '../../errors/errors.ts';
import type { PoolName } from '../names.ts';
import { formatBytes } from '../quantity.ts';
import type { VolumeRequest } from './options.ts';
import type { FoundVolume, Pool, VolumeManifest } from './pool.ts';
import type { Place } from './record.ts';

/** The pools of this host by name, and the one place where a request is honoured or refused. */
export class Pools {
  readonly #pools: ReadonlyMap<PoolName, Pool>;

  constructor(pools: readonly Pool[]) {
    this.#pools = new Map(pools.map(pool => [pool.name, pool]));
  }

  all(): readonly Pool[] {
    return [...this.#pools.values()];
  }

  /** @throws NotFound */
  get(name: PoolName): Pool {
    const pool = this.#pools.get(name);
    if (pool !== undefined) return pool;
    const known = [...this.#pools.keys()].join(', ');
    throw new NotFound(
      `no such pool: ${name}; the pools are: ${known} (more can be named in the configuration)`,
    );
  }

  /**
   * The pool that honours everything a request asks for.
   * @throws Unimplemented when it cannot enforce what was asked, with what to do instead
   */
  choose(request: VolumeRequest, fallback: PoolName): Pool {
    const pool = this.get(request.pool ?? fallback);
    if (request.sizeBytes !== undefined && pool.capabilities.quota === 'none') {
      throw new Unimplemented(
        `pool ${pool.name} (${pool.driver}) cannot enforce a size, so size=${formatBytes(request.sizeBytes)} is refused ` +
          'and nothing was created; leave size out, or keep the pool on a file system of that size',
      );
    }
    return pool;
  }

  /**
   * Volumes that are on the disks and that the records do not know: those are older than the disks, or lost.
   * Pools that are not there are passed over.
   */
  async unrecorded(isKnown: (place: Place) => boolean): Promise<readonly UnrecordedVolume[]> {
    const found = await Promise.all(this.all().map(pool => unknownVolumes(pool, isKnown)));
    return found.flat();
  }
}

/** A volume that a disk holds and the records do not. */
export interface UnrecordedVolume extends Place {
  readonly manifest: VolumeManifest;
}

async function unknownVolumes(pool: Pool, isKnown: (place: Place) => boolean): Promise<UnrecordedVolume[]> {
  if (!(await isThere(pool))) return [];
  const numbers = (await pool.numbers()).filter(number => !isKnown({ pool: pool.name, number }));
  const volumes: FoundVolume[] = await Promise.all(numbers.map(number => pool.read(number)));
  return volumes.flatMap(volume => ('manifest' in volume ? [{ pool: pool.name, ...volume }] : []));
}

async function isThere(pool: Pool): Promise<boolean> {
  try {
    await pool.probe();
    return true;
  } catch (error) {
    if (error instanceof Unavailable) return false;
    throw error;
  }
}
