import { messageOf } from '../../errors/errors.ts';
import type { DriverName, PoolName, VolumeName } from '../names.ts';
import { viewOf } from './describe.ts';
import type { Pool } from './pool.ts';
import type { Pools } from './pools.ts';
import type { VolumeService } from './service.ts';
import type { PoolView, VolumeView } from './view.ts';

/** What there is, as faces show it: from memory, so that a question never waits for a disk. */
export class Inventory {
  readonly #service: VolumeService;
  readonly #pools: Pools;
  readonly #poolStates = new Map<PoolName, Pick<PoolView, 'health' | 'freeBytes' | 'totalBytes'>>();

  constructor(service: VolumeService, pools: Pools) {
    this.#service = service;
    this.#pools = pools;
  }

  /** One volume; with `driver`, only if it is one of that driver. @throws NotFound */
  volume(name: VolumeName, driver?: DriverName): VolumeView {
    return this.#view(this.#service.get(name, driver));
  }

  volumes(driver?: DriverName): readonly VolumeView[] {
    return this.#service.list(driver).map(volume => this.#view(volume));
  }

  pools(): readonly PoolView[] {
    const volumes = this.volumes();
    return this.#pools.all().map(({ name, driver, root, capabilities }) => ({
      name,
      driver,
      root,
      capabilities,
      ...(this.#poolStates.get(name) ?? { health: 'not looked at yet', freeBytes: null, totalBytes: null }),
      volumes: volumes.filter(volume => volume.pool === name).length,
    }));
  }

  /** Looks at every pool, so that the health of its volumes can be told. */
  async lookAtPools(): Promise<void> {
    await Promise.all(this.#pools.all().map(pool => this.#lookAt(pool)));
  }

  /** Whether a pool was there when it was last looked at. */
  isThere(name: PoolName): boolean {
    return this.#poolStates.get(name)?.health === 'ok';
  }

  async #lookAt(pool: Pool): Promise<void> {
    try {
      await this.#pools.probe(pool);
      this.#poolStates.set(pool.name, { health: 'ok', ...(await this.#pools.space(pool)) });
    } catch (error) {
      this.#poolStates.set(pool.name, { health: messageOf(error), freeBytes: null, totalBytes: null });
    }
  }

  #view(volume: ReturnType<VolumeService['get']>): VolumeView {
    if (!('record' in volume)) return viewOf(volume, '', '');
    return viewOf(volume, this.#service.mountPoint(volume), this.#healthOf(volume.record.pool));
  }

  #healthOf(name: PoolName): string {
    const isConfigured = this.#pools.all().some(pool => pool.name === name);
    if (!isConfigured) return `its pool ${name} is not configured; name it in the configuration`;
    return this.#poolStates.get(name)?.health ?? 'ok';
  }
}
