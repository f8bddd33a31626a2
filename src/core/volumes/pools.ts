import { DeadlineExceeded, NotFound, Unavailable, Unimplemented } from '../../errors/errors.ts';
import { within } from '../../lib/deadline.ts';
import type { PoolName } from '../names.ts';
import { formatBytes } from '../quantity.ts';
import type { VolumeRequest } from './options.ts';
import type { Pool, VolumeManifest } from './pool.ts';
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
   * Makes sure that a pool is there, in bounded time: one whose server is dead must not stop the others.
   * @throws Unavailable with the way out
   */
  async probe(pool: Pool): Promise<void> {
    await answerOf(pool, () => pool.probe());
  }

  /** The numbers that are taken in a pool. @throws Unavailable */
  numbers(pool: Pool): ReturnType<Pool['numbers']> {
    return answerOf(pool, () => pool.numbers());
  }

  /** Room in a pool. @throws Unavailable */
  space(pool: Pool): ReturnType<Pool['space']> {
    return answerOf(pool, () => pool.space());
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

/** How long a pool has for a question, in milliseconds. */
const patienceMs = 5000;

async function answerOf<T>(pool: Pool, ask: () => Promise<T>): Promise<T> {
  const silent = `pool ${pool.name} (${pool.root}) does not answer; look at its disk or server`;
  try {
    return await within(patienceMs, silent, ask);
  } catch (error) {
    if (error instanceof DeadlineExceeded) throw new Unavailable(error.message);
    throw error;
  }
}

async function unknownVolumes(pool: Pool, isKnown: (place: Place) => boolean): Promise<UnrecordedVolume[]> {
  try {
    await answerOf(pool, () => pool.probe());
    const numbers = await answerOf(pool, () => pool.numbers());
    const unknown: UnrecordedVolume[] = [];
    for (const number of numbers) {
      if (isKnown({ pool: pool.name, number })) continue;
      const found = await answerOf(pool, () => pool.read(number));
      if ('manifest' in found) unknown.push({ pool: pool.name, ...found });
    }
    return unknown;
  } catch (error) {
    if (error instanceof Unavailable) return [];
    throw error;
  }
}
