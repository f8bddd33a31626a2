import { NotFound } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import type { MountId, PoolName, VolumeName, VolumeNumber } from '../names.ts';
import type { Change, CopyProgress, ObjectStore, Usage } from '../ports.ts';
import { type Consumer, type Consumers, noConsumers, unconfirmed } from './consumers.ts';
import type { VolumeManifest } from './pool.ts';
import { keys, type Place, parseRecord, samePlace, type VolumeRecord } from './record.ts';

/** One volume as the daemon knows it: its durable record, and what is known besides. */
export interface Volume {
  record: VolumeRecord;
  /** Of the record in the store. */
  revision: number;
  consumers: Consumers;
  /** Whether its mount point has it mounted, as last seen. */
  isMounted: boolean;
  /** Whether its place on the disk was seen to be its own. */
  isPlaceChecked: boolean;
  labels: Readonly<Record<string, string>>;
  usage: (Usage & { readonly measuredAt: Date }) | null;
  /** Whether it may have been written to since it was measured. */
  isUsageStale: boolean;
  progress: CopyProgress | null;
  /** Names of the containers that have it, as the engine told last; it does not say which mount id is whose. */
  containers: readonly string[];
}

interface StoredConsumers extends Place {
  readonly consumers: Readonly<Record<string, Consumer>>;
}

/**
 * All volumes in memory, written through to the stores: Get and List are answered from here. Records are
 * durable; consumers live in the boot-scoped store, which a reboot clears as it clears the mounts.
 */
export class Catalog {
  readonly #store: ObjectStore;
  readonly #bootStore: ObjectStore;
  readonly #volumes = new Map<VolumeName, Volume>();
  #lastNumber = 0;

  constructor(store: ObjectStore, bootStore: ObjectStore) {
    this.#store = store;
    this.#bootStore = bootStore;
  }

  /**
   * Reads everything. Consumers come back unconfirmed: calls may have gone unanswered when we ended.
   * @throws FailedPrecondition, with the cure, when a record is damaged
   */
  async load(): Promise<void> {
    const [records, labels, consumers] = await Promise.all([
      this.#store.list(keys.volumes),
      this.#store.list(keys.labels),
      this.#bootStore.list(keys.volumes),
    ]);
    const labelsByKey = new Map(labels.map(({ key, value }) => [key, value as Volume['labels']]));
    const consumersByKey = new Map(consumers.map(({ key, value }) => [key, value as StoredConsumers]));
    for (const object of records) {
      const { key, revision } = object;
      const record = parseRecord(object);
      const stored = consumersByKey.get(key);
      const volume = newVolume(record, revision);
      volume.labels = labelsByKey.get(keys.label(record.name)) ?? {};
      if (stored !== undefined && samePlace(stored, record))
        volume.consumers = unconfirmed(fromStored(stored));
      this.#volumes.set(record.name, volume);
    }
    const last = (await this.#store.get(keys.lastNumber))?.value as number | undefined;
    this.reserveNumbers([last ?? 0, ...[...this.#volumes.values()].map(({ record }) => record.number)]);
  }

  /** Numbers that were seen on a disk are never given to a new volume, even if the records forgot them. */
  reserveNumbers(numbers: readonly number[]): void {
    this.#lastNumber = numbers.reduce((last, number) => Math.max(last, number), this.#lastNumber);
  }

  find(name: VolumeName): Volume | undefined {
    return this.#volumes.get(name);
  }

  /** @throws NotFound */
  get(name: VolumeName): Volume {
    const volume = this.#volumes.get(name);
    if (volume === undefined) throw new NotFound(`no such volume: ${name}`);
    return volume;
  }

  all(): readonly Volume[] {
    return [...this.#volumes.values()];
  }

  /** Records a new volume under the next number. @throws Aborted when the name has been taken meanwhile */
  async add(draft: Omit<VolumeRecord, 'number'>): Promise<Volume> {
    const number = ++this.#lastNumber as VolumeNumber;
    return this.#insert({ ...draft, number });
  }

  /**
   * Records a volume that a disk holds already. @throws Aborted when the name is taken
   */
  async adopt(pool: PoolName, manifest: VolumeManifest): Promise<void> {
    const { version: _, ...facts } = manifest;
    const record: VolumeRecord = { ...facts, pool, defaults: {}, phase: 'Ready' };
    this.reserveNumbers([record.number]);
    await this.#insert(record);
  }

  /** Replaces the record. @throws Aborted when somebody else has changed it */
  async save(volume: Volume, record: VolumeRecord): Promise<void> {
    const key = keys.volume(record.name);
    volume.revision = await this.#certainly(record.name, () =>
      step('catalog.save', () =>
        this.#store.transaction([{ key, revision: volume.revision }], [{ type: 'put', key, value: record }]),
      ),
    );
    volume.record = record;
  }

  /** Forgets a volume. Its bytes are trash from now on, unless it never had a place of its own. */
  async delete(volume: Volume, { isPlaceOurs = true } = {}): Promise<void> {
    const { name, pool, number } = volume.record;
    const place: Place = { pool, number };
    const trash: Change[] = isPlaceOurs ? [{ type: 'put', key: keys.trashed(place), value: place }] : [];
    await this.#certainly(name, () =>
      step('catalog.delete', () =>
        this.#store.transaction(
          [{ key: keys.volume(name), revision: volume.revision }],
          [{ type: 'delete', key: keys.volume(name) }, { type: 'delete', key: keys.label(name) }, ...trash],
        ),
      ),
    );
    this.#volumes.delete(name);
    await step('catalog.forget-consumers', () =>
      this.#bootStore.transaction([], [{ type: 'delete', key: keys.volume(name) }]),
    );
  }

  async trash(): Promise<readonly Place[]> {
    return (await this.#store.list(keys.trash)).map(({ value }) => value as Place);
  }

  async forgetTrash(places: readonly Place[]): Promise<void> {
    if (places.length === 0) return;
    const changes = places.map(place => ({ type: 'delete', key: keys.trashed(place) }) as const);
    await step('catalog.forget-trash', () => this.#store.transaction([], changes));
  }

  async saveConsumers(volume: Volume, consumers: Consumers): Promise<void> {
    if (consumers === volume.consumers) return;
    const { name, pool, number } = volume.record;
    const value: StoredConsumers = { pool, number, consumers: Object.fromEntries(consumers) };
    await step('catalog.consumers', () =>
      this.#bootStore.transaction([], [{ type: 'put', key: keys.volume(name), value }]),
    );
    volume.consumers = consumers;
  }

  async saveLabels(volume: Volume, labels: Volume['labels']): Promise<void> {
    const { name } = volume.record;
    await step('catalog.labels', () =>
      this.#store.transaction(
        [{ key: keys.volume(name), revision: volume.revision }],
        [{ type: 'put', key: keys.label(name), value: labels }],
      ),
    );
    volume.labels = labels;
  }

  async #insert(record: VolumeRecord): Promise<Volume> {
    const key = keys.volume(record.name);
    const revision = await this.#certainly(record.name, () =>
      step('catalog.add', () =>
        this.#store.transaction(
          [{ key, revision: 0 }],
          [
            { type: 'put', key: keys.lastNumber, value: this.#lastNumber },
            { type: 'put', key, value: record },
          ],
        ),
      ),
    );
    const volume = newVolume(record, revision);
    this.#volumes.set(record.name, volume);
    return volume;
  }

  /** Changes a record; when that fails nobody knows whether it happened, and memory takes what the store holds. */
  async #certainly<T>(name: VolumeName, change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } catch (error) {
      await this.#reload(name);
      throw error;
    }
  }

  async #reload(name: VolumeName): Promise<void> {
    const stored = await this.#store.get(keys.volume(name));
    const known = this.#volumes.get(name);
    if (stored === undefined) {
      this.#volumes.delete(name);
      return;
    }
    const volume = newVolume(stored.value as VolumeRecord, stored.revision);
    if (known !== undefined && samePlace(known.record, volume.record)) {
      known.record = volume.record;
      known.revision = volume.revision;
    } else this.#volumes.set(name, volume);
  }
}

function newVolume(record: VolumeRecord, revision: number): Volume {
  return {
    record,
    revision,
    consumers: noConsumers,
    isMounted: false,
    isPlaceChecked: false,
    labels: {},
    usage: null,
    isUsageStale: true,
    progress: null,
    containers: [],
  };
}

function fromStored({ consumers }: StoredConsumers): Consumers {
  return new Map(Object.entries(consumers).map(([id, consumer]) => [id as MountId, consumer]));
}

/** @throws FailedPrecondition, with the cure, when a record is damaged */
export async function checkRecords(store: ObjectStore): Promise<void> {
  for (const object of await store.list(keys.volumes)) parseRecord(object);
}
