import { Aborted, messageOf } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { Clock } from '../ports.ts';
import type { Catalog, Volume } from './catalog.ts';
import type { Pools } from './pools.ts';

/** Measures how much volumes occupy: a walk over their files, one volume at a time, never on a request path. */
export class Meter {
  readonly #catalog: Catalog;
  readonly #pools: Pools;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(catalog: Catalog, pools: Pools, clock: Clock, log: Logger) {
    this.#catalog = catalog;
    this.#pools = pools;
    this.#clock = clock;
    this.#log = log;
  }

  /** Measures one volume now. @throws Unavailable; Aborted when the signal fires */
  async measure(volume: Volume, signal: AbortSignal): Promise<void> {
    const pool = this.#pools.get(volume.record.pool);
    await this.#pools.probe(pool);
    const isMounted = volume.isMounted;
    const usage = await pool.usage(volume.record.number, signal);
    volume.usage = { ...usage, measuredAt: this.#clock.now() };
    volume.isUsageStale = isMounted || volume.isMounted;
  }

  /** Measures the volumes that may have changed since they were measured. */
  async measureStale(signal: AbortSignal): Promise<void> {
    for (const volume of this.#catalog.all()) {
      if (!volume.isUsageStale || volume.record.phase !== 'Ready') continue;
      try {
        await this.measure(volume, signal);
      } catch (error) {
        if (error instanceof Aborted) return;
        this.#log.debug(`volume ${volume.record.name} cannot be measured: ${messageOf(error)}`);
      }
    }
  }
}
