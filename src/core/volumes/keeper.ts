import { messageOf } from '../../errors/errors.ts';
import type { Held } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/log.ts';
import type { DriverName, VolumeName } from '../names.ts';
import type { Clock, Engine, EngineVolume } from '../ports.ts';
import type { Catalog, Volume } from './catalog.ts';
import { type Evidence, settled } from './consumers.ts';
import { type Creator, isInterrupted } from './creator.ts';
import type { Driver } from './driver.ts';
import type { Inventory } from './inventory.ts';
import type { Pool } from './pool.ts';
import type { Pools } from './pools.ts';
import type { Publisher } from './publisher.ts';
import { isOf, manifestOf, type Place, sameManifest, samePlace } from './record.ts';
import type { VolumeService } from './service.ts';

export interface KeeperParts {
  readonly service: VolumeService;
  readonly catalog: Catalog;
  readonly pools: Pools;
  readonly publisher: Publisher;
  readonly creator: Creator;
  readonly inventory: Inventory;
  readonly drivers: readonly Driver[];
  /** Undefined when the configuration names none. */
  readonly engine: Engine | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What the engine said last. */
export interface EngineState {
  readonly version: string | null;
  readonly error: string | null;
}

/**
 * Keeps what is so as it should be, in the background: looks at volumes whose consumers may be gone, learns
 * from the engine who uses what, finishes what an earlier run began. It works from the present
 * state alone, so that it can run at any time, twice, or after any crash, and without the engine.
 */
export class Keeper {
  readonly #parts: KeeperParts;
  #engine: EngineState = { version: null, error: 'not asked yet' };

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  get engineState(): EngineState {
    return this.#engine;
  }

  /** Compares memory with the mount table and the disks, once, before the first request is answered. */
  async observe(): Promise<void> {
    const { catalog, publisher, service, inventory, log } = this.#parts;
    const published = await publisher.published();
    for (const volume of catalog.all()) {
      volume.isMounted = published.some(place => samePlace(place, volume.record));
    }
    service.quarantine(await this.#findUnrecorded());
    await inventory.lookAtPools();
    for (const { name, health } of inventory.pools()) {
      if (health !== 'ok') log.warn(`pool ${name}: ${health}`);
    }
  }

  /** Finishes, in the background, what the last run of the daemon began. */
  async resume(): Promise<void> {
    const { pools } = this.#parts;
    await this.#finishCreations();
    for (const volume of this.#reachable().filter(({ record }) => record.phase === 'Ready')) {
      await this.#attempt(volume, () => this.#reconcileManifest(pools.get(volume.record.pool), volume));
    }
  }

  /**
   * Ends what an interrupted change of the protection left: protected, whichever of record and manifest says so,
   * since the record may be from an older database. A manifest of another volume, or a damaged one, is left for a
   * person.
   */
  async #reconcileManifest(pool: Pool, volume: Volume): Promise<void> {
    const found = await pool.read(volume.record.number);
    if (!('manifest' in found) || !isOf(found.manifest, volume.record)) return;
    if (found.manifest.protected && !volume.record.protected) {
      await this.#parts.catalog.save(volume, { ...volume.record, protected: true });
      this.#parts.log.warn(`volume ${volume.record.name} is protected again, as its volume.json says`);
    }
    const manifest = manifestOf(volume.record);
    if (!sameManifest(found.manifest, manifest)) await pool.writeManifest(manifest);
  }

  async #finishCreations(): Promise<void> {
    const { creator } = this.#parts;
    for (const volume of this.#reachable().filter(isInterrupted)) {
      await this.#attempt(volume, held => creator.resume(held, volume));
    }
  }

  /** The volumes whose pools were there at the last look: the others would cost their patience one by one. */
  #reachable(): readonly Volume[] {
    const { catalog, inventory } = this.#parts;
    return catalog.all().filter(({ record }) => inventory.isThere(record.pool));
  }

  /** One round. */
  async tick(): Promise<void> {
    const { catalog, service, inventory } = this.#parts;
    await inventory.lookAtPools();
    service.quarantine(await this.#findUnrecorded());
    await this.#finishCreations();
    await this.#noticeMounts();
    const known = await this.#askEngine();
    for (const volume of catalog.all()) await this.#learn(volume, known?.get(volume.record.name));
    for (const volume of this.#reachable()) {
      const ofEngine = known?.get(volume.record.name);
      if (this.#needsSettling(volume, ofEngine)) {
        await this.#attempt(volume, held => this.#settle(held, volume, ofEngine));
      }
    }
  }

  /** Others can mount and unmount as well. */
  async #noticeMounts(): Promise<void> {
    const { catalog, publisher } = this.#parts;
    const published = new Set((await publisher.published()).map(place => publisher.mountPoint(place)));
    const isPublished = ({ record }: Volume): boolean => published.has(publisher.mountPoint(record));
    for (const volume of catalog.all().filter(candidate => isPublished(candidate) !== candidate.isMounted)) {
      await this.#attempt(volume, async () => {
        volume.isMounted = (await publisher.published()).some(place => samePlace(place, volume.record));
      });
    }
  }

  /** Volumes on the disks that the records do not know; those that are being removed, the records do know. */
  async #findUnrecorded(): ReturnType<Pools['unrecorded']> {
    const { catalog, pools } = this.#parts;
    // In this order: a removal moves a volume from the first to the second, and then off the disk.
    const places: Place[] = catalog.all().map(({ record }) => record);
    places.push(...(await catalog.trash()));
    const known = new Set(places.map(({ pool, number }) => `${pool}/${number}`));
    return pools.unrecorded(({ pool, number }) => known.has(`${pool}/${number}`));
  }

  /** Looks for the users of a volume only when that could change something: it reads every mount table. */
  #needsSettling(volume: Volume, known: EngineVolume | undefined): boolean {
    const { consumers, isMounted } = volume;
    if (consumers.size === 0 || !isMounted) return isMounted || consumers.size > 0;
    return settled(consumers, this.#evidence(false, known)) !== consumers;
  }

  #evidence(inUse: boolean, known: EngineVolume | undefined): Evidence {
    const containers = known?.containers ?? [];
    const disowned = containers.length > 0 && !containers.some(({ running }) => running);
    return { inUse, disowned, nowMs: this.#parts.clock.now().getTime() };
  }

  async #settle(held: Held<VolumeName>, volume: Volume, known: EngineVolume | undefined): Promise<void> {
    const { catalog, pools, publisher, service } = this.#parts;
    if (catalog.find(volume.record.name) !== volume) return;
    const pool = pools.get(volume.record.pool);
    await pools.probe(pool);
    const users = await publisher.users(pool, volume.record);
    const consumers = settled(volume.consumers, this.#evidence(users.length > 0, known));
    await catalog.saveConsumers(volume, consumers);
    if (consumers.size > 0 && !volume.isMounted) await service.publish(held, volume);
    await service.releaseUnused(held, volume);
  }

  /** What the engine knows of all our volumes, or undefined when it does not answer. */
  async #askEngine(): Promise<ReadonlyMap<string, EngineVolume> | undefined> {
    const { engine, drivers } = this.#parts;
    if (engine === undefined) return undefined;
    try {
      const answers = await Promise.all(drivers.map(({ name }) => engine.volumes(name satisfies DriverName)));
      this.#engine = { version: await engine.version(), error: null };
      return new Map(answers.flat().map(volume => [volume.name, volume]));
    } catch (error) {
      this.#engine = { version: null, error: messageOf(error) };
      return undefined;
    }
  }

  /** Keeps the engine's labels: it deletes its own copy at the first doubt. */
  async #learn(volume: Volume, known: EngineVolume | undefined): Promise<void> {
    if (known === undefined) return;
    volume.containers = known.containers.map(({ name }) => name);
    const isNews = Object.keys(known.labels).length > 0 && !sameLabels(known.labels, volume.labels);
    if (isNews) await this.#attempt(volume, () => this.#parts.catalog.saveLabels(volume, known.labels));
  }

  async #attempt(volume: Volume, act: (held: Held<VolumeName>) => Promise<void>): Promise<void> {
    const { service, log } = this.#parts;
    try {
      await service.exclusively(volume.record.name, act);
    } catch (error) {
      log.warn(`volume ${volume.record.name}: ${messageOf(error)}`);
    }
  }
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every(name => a[name] === b[name]);
}
