import { messageOf } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { type Repetition, repeat } from '../../lib/repeat.ts';
import type { Catalog } from './catalog.ts';
import type { Pools } from './pools.ts';
import type { Publisher } from './publisher.ts';
import type { Place } from './record.ts';

export interface TrashParts {
  readonly catalog: Catalog;
  readonly pools: Pools;
  readonly publisher: Publisher;
  readonly log: Logger;
}

/**
 * Gets rid of the bytes of volumes whose records are gone. It is always after the fact: what cannot be done
 * now is done by a later {@link empty}, and never fails the removal itself.
 */
export class Trash {
  readonly #parts: TrashParts;
  #loop: Repetition | undefined;

  constructor(parts: TrashParts) {
    this.#parts = parts;
  }

  /** Empties it now, at every `intervalMs` milliseconds, and soon after each {@link nudge}, until stopped. */
  start(intervalMs: number): Repetition {
    const { log } = this.#parts;
    this.#loop = repeat(
      intervalMs,
      () => this.empty(),
      error => log.warn(messageOf(error)),
    );
    return this.#loop;
  }

  /** A record has just become trash: its bytes go soon, without anybody waiting for it. */
  nudge(): void {
    this.#loop?.nudge();
  }

  /** Deletes everything that was put aside, in every pool that is there. */
  async empty(): Promise<void> {
    const hidden: Place[] = [];
    for (const place of await this.#parts.catalog.trash()) {
      if (await this.#hide(place)) hidden.push(place);
    }
    await this.#parts.catalog.forgetTrash(hidden);
    for (const pool of this.#parts.pools.all()) {
      try {
        await this.#parts.pools.probe(pool);
        const left = await pool.emptyTrash();
        if (left > 0)
          this.#parts.log.warn(`pool ${pool.name}: ${left} trees in the trash cannot be deleted yet`);
      } catch (error) {
        this.#parts.log.debug(`pool ${pool.name}: the trash stays: ${messageOf(error)}`);
      }
    }
  }

  /** Puts one volume out of sight: its mount point goes, its directory moves to the pool's trash. */
  async #hide(place: Place): Promise<boolean> {
    const { pools, publisher, log } = this.#parts;
    try {
      const pool = pools.get(place.pool);
      await pools.probe(pool);
      await publisher.dismantle(place);
      await pool.remove(place.number);
      return true;
    } catch (error) {
      log.warn(`the removed volume ${place.pool}/${place.number} is still on the disk: ${messageOf(error)}`);
      return false;
    }
  }
}
