import { Aborted } from '../../errors/errors.ts';
import type { MountSource } from '../mount.ts';
import type { LayerKey, LayerNumber } from '../names.ts';
import type { Clock } from '../ports.ts';
import type { LayerCatalog, LayerChangeSet } from './catalog.ts';
import { parseLabels } from './labels.ts';
import type { LayerDisk, Stack } from './layer-disk.ts';
import type { CommitOptions } from './layer-store.ts';
import { type LayerRecord, manifestOf } from './record.ts';

export interface LayerParts {
  readonly catalog: LayerCatalog;
  readonly disk: LayerDisk;
  readonly clock: Clock;
  /** Of the boot that the host is in (random(4), boot_id). */
  readonly bootId: string;
  /** On the disk, and not in the records. */
  readonly unrecorded: readonly LayerNumber[];
}

/** What a writable layer holds before anybody wrote to it. */
export const unwritten = { usage: null, diffId: null, archive: 'none', unsyncedBoot: null } as const;

/** A record, and the numbers of those beneath. */
export interface Placing {
  readonly record: LayerRecord;
  readonly stack: Stack;
}

/** The steps that operations on records and disk are made of. */
export class LayerSteps {
  readonly catalog: LayerCatalog;
  readonly disk: LayerDisk;
  readonly bootId: string;
  readonly #clock: Clock;
  /** Layers that may be recorded, and did not get their place. */
  readonly #unplaced = new Set<LayerKey>();

  constructor({ catalog, disk, clock, bootId }: LayerParts) {
    this.catalog = catalog;
    this.disk = disk;
    this.bootId = bootId;
    this.#clock = clock;
  }

  now(): string {
    return this.#clock.now().toISOString();
  }

  touched(record: LayerRecord): LayerRecord {
    return { ...record, updatedAt: this.now() };
  }

  /** The record of an active layer as it is committed now. @throws InvalidArgument for its labels */
  committed(name: LayerKey, record: LayerRecord, { labels, sync = true }: CommitOptions): LayerRecord {
    const now = this.now();
    return {
      ...record,
      ...{ name, kind: 'committed', labels: parseLabels(labels), limit: null },
      ...{ createdAt: now, updatedAt: now, unsyncedBoot: sync === false ? this.bootId : null },
    };
  }

  /**
   * Brings the data of all layers to the disk, and records that: what is recorded next may rest on any of them. One
   * that was changed meanwhile may have data that came too late, and is brought there again.
   */
  async sync(): Promise<void> {
    const isWaiting = ({ unsyncedBoot }: LayerRecord) => unsyncedBoot !== null;
    let waiting = this.catalog.all().filter(isWaiting);
    const numbers = new Set(waiting.map(({ number }) => number));
    do {
      await this.disk.sync();
      await this.#recordSynced(waiting.filter(record => this.catalog.find(record.name) === record));
      waiting = this.catalog.all().filter(record => isWaiting(record) && numbers.has(record.number));
    } while (waiting.length > 0);
  }

  async #recordSynced(synced: readonly LayerRecord[]): Promise<void> {
    const put = synced.map(record => ({ ...record, unsyncedBoot: null }));
    if (put.length === 0) return;
    try {
      await this.catalog.change({ put });
    } catch (error) {
      // Somebody else records the same at this moment, or has changed one.
      if (!(error instanceof Aborted)) throw error;
      return;
    }
    for (const record of put) {
      await this.disk.writeManifest(manifestOf(record), { durable: record.kind === 'committed' });
    }
  }

  /**
   * Does the work on the disk that comes before a record. When it fails the draft goes, and the manifest of the layer
   * that there was says again what its record says; what cannot be done now is done at the next start.
   */
  async drafting<T>(draft: LayerNumber | null, old: LayerRecord | null, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (draft !== null) await this.disk.dropDraft(draft).catch(() => undefined);
      if (old !== null) await this.disk.writeManifest(manifestOf(old)).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Records a change; the disk follows before anybody sees the records. A draft whose record may have been written is
   * never dropped: the next start decides.
   */
  async record(changes: LayerChangeSet, placings: readonly Placing[]): Promise<void> {
    try {
      await this.catalog.change(changes, async () => {
        for (const { record, stack } of placings) await this.disk.place(stack, record.kind);
      });
    } catch (error) {
      // Perhaps they are recorded all the same.
      for (const { record } of placings) this.#unplaced.add(record.name);
      throw error;
    }
  }

  /** Gives those their place that did not get it, as a start does. */
  async placeLeft(): Promise<void> {
    for (const name of this.#unplaced) {
      const record = this.catalog.find(name);
      if (record !== undefined) await this.disk.place(this.catalog.stackOf(record), record.kind);
      this.#unplaced.delete(name);
    }
  }

  mountsOf(record: LayerRecord): Promise<readonly MountSource[]> {
    return this.disk.mounts(this.catalog.stackOf(record), record.kind);
  }

  /** Puts layers whose records are gone out of sight. */
  async discard(numbers: readonly LayerNumber[]): Promise<void> {
    for (const number of numbers) await this.disk.remove(number);
    await this.catalog.forgetTrash(numbers);
  }
}
