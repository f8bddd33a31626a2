import {
  Aborted,
  AlreadyExists,
  InvalidArgument,
  messageOf,
  NotFound,
  Unavailable,
} from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';
import { type LayerKey, type LayerNumber, type LayerStoreName, parseLayerNumber, show } from '../names.ts';
import type { Change, Compare, ObjectStore } from '../ports.ts';
import type { Stack } from './layer-disk.ts';
import { type LayerKeys, type LayerRecord, layerKeys, parseLayerRecord } from './record.ts';

interface Entry {
  readonly record: LayerRecord;
  /** Of the record in the store. */
  readonly revision: number;
}

/** One transaction: these records replace those of the same names. */
export interface LayerChangeSet {
  readonly put?: readonly LayerRecord[];
  readonly delete?: readonly LayerRecord[];
  /** Places whose bytes are trash from now on. */
  readonly trash?: readonly LayerNumber[];
}

/** All layers of a store in memory, written through to the object store: everything is answered from here. */
export class LayerCatalog {
  readonly #store: ObjectStore;
  readonly #keys: LayerKeys;
  readonly #entries = new Map<LayerKey, Entry>();
  readonly #names = new Map<LayerNumber, LayerKey>();
  readonly #children = new Map<LayerKey, Set<LayerKey>>();
  /** Names that an operation under way is about to take, and what they will rest on. */
  readonly #claims = new Map<LayerKey, LayerKey | null>();
  /** Layers that an operation under way moves or removes: nothing new may rest on them. */
  readonly #changing = new Set<LayerKey>();
  /** Why layers cannot be used that may be whole again at the next start. */
  readonly #missing = new Map<LayerKey, string>();
  /** Set when nobody knows what the store holds. */
  #doubt: unknown;
  #lastNumber = 0;
  /** Whether an engine has records of its own of these layers. */
  readonly isOfEngine: boolean;

  constructor(store: ObjectStore, keys: LayerKeys, isOfEngine = false) {
    this.#store = store;
    this.#keys = keys;
    this.isOfEngine = isOfEngine;
  }

  /** @throws FailedPrecondition, with the cure, when a record is damaged */
  async load(): Promise<void> {
    for (const object of await this.#store.list(this.#keys.layers)) {
      this.#set({ record: parseLayerRecord(object, this.#keys), revision: object.revision });
    }
    const last = (await this.#store.get(this.#keys.lastNumber))?.value as number | undefined;
    this.reserveNumbers([last ?? 0, ...[...this.#entries.values()].map(({ record }) => record.number)]);
  }

  /** Numbers that were seen on a disk are never given to a new layer, even if the records forgot them. */
  reserveNumbers(numbers: readonly number[]): void {
    this.#lastNumber = numbers.reduce((last, number) => Math.max(last, number), this.#lastNumber);
  }

  nextNumber(): LayerNumber {
    return parseLayerNumber(++this.#lastNumber);
  }

  /** In the order in which they were made. */
  all(): readonly LayerRecord[] {
    return [...this.#entries.values()].map(({ record }) => record).sort((a, b) => a.number - b.number);
  }

  find(name: LayerKey): LayerRecord | undefined {
    return this.#entries.get(name)?.record;
  }

  withNumber(number: LayerNumber): LayerRecord | undefined {
    const name = this.#names.get(number);
    return name === undefined ? undefined : this.find(name);
  }

  /** @throws NotFound */
  get(name: LayerKey): LayerRecord {
    const record = this.find(name);
    if (record !== undefined) return record;
    throw new NotFound(`no such layer: ${show(name)}; \`varve layer ls\` shows those there are`);
  }

  /** Names of the layers that rest on one, those being made included. */
  childrenOf(name: LayerKey): readonly LayerKey[] {
    const coming = [...this.#claims].filter(([, parent]) => parent === name).map(([child]) => child);
    return [...(this.#children.get(name) ?? []), ...coming];
  }

  /** A layer and those beneath it, from the top down. @throws NotFound when a parent is missing */
  recordsOf(record: LayerRecord): readonly LayerRecord[] {
    const records = [record];
    for (let { parent } = record; parent !== null; ) {
      const below = this.get(parent);
      records.push(below);
      parent = below.parent;
    }
    return records;
  }

  stackOf(record: LayerRecord): Stack {
    const [top, ...below] = this.recordsOf(record).map(({ number }) => number);
    return [top as LayerNumber, ...below];
  }

  /**
   * Takes a name while `act` makes its layer, so that nobody else does, and so that its parent stays.
   * @throws AlreadyExists; InvalidArgument when the parent is not committed; Aborted when it is being removed
   */
  async claiming<T>(name: LayerKey, parent: LayerKey | null, act: () => Promise<T>): Promise<T> {
    if (this.#entries.has(name) || this.#claims.has(name)) {
      throw new AlreadyExists(`the layer ${show(name)} exists already; remove it, or choose another name`);
    }
    if (parent !== null) this.#requireParent(parent);
    this.#claims.set(name, parent);
    try {
      return await act();
    } finally {
      this.#claims.delete(name);
    }
  }

  /** Keeps new layers from resting on these while `act` moves or removes them. */
  async changing<T>(names: readonly LayerKey[], act: () => Promise<T>): Promise<T> {
    for (const name of names) this.#changing.add(name);
    try {
      return await act();
    } finally {
      for (const name of names) this.#changing.delete(name);
    }
  }

  /** Notes, until the next start, why a layer cannot be used. */
  setMissing(name: LayerKey, reason: string): void {
    this.#missing.set(name, reason);
  }

  /** Why a layer cannot be used; null for a sound one. What is beneath it does not count. */
  damageOf({ name, damage, archive }: LayerRecord): string | null {
    const half = archive === 'part' ? 'an archive was applied to it in part only' : null;
    return damage ?? this.#missing.get(name) ?? half;
  }

  /**
   * All of it or nothing, durable.
   * @param follow makes the disk what the records say by now; it comes before anybody sees the records
   * @throws Aborted when somebody else has changed one of the records; Unavailable when nobody knows what they say
   */
  async change(changes: LayerChangeSet, follow?: () => Promise<void>): Promise<void> {
    this.#refuseDoubt();
    const { put = [], delete: gone = [], trash = [] } = changes;
    const touched = [...put, ...gone].map(({ name }) => name);
    const compares: Compare[] = touched.map(name => ({
      key: this.#keys.layer(name),
      revision: this.#entries.get(name)?.revision ?? 0,
    }));
    const writes: Change[] = [
      ...gone.map(({ name }) => ({ type: 'delete', key: this.#keys.layer(name) }) as const),
      ...put.map(record => ({ type: 'put', key: this.#keys.layer(record.name), value: record }) as const),
      ...trash.map(number => ({ type: 'put', key: this.#keys.trashed(number), value: number }) as const),
      { type: 'put', key: this.#keys.lastNumber, value: this.#lastNumber },
    ];
    const revision = await step('layer.record', () => this.#store.transaction(compares, writes)).catch(
      async (error: unknown) => {
        await this.#reload(touched, error);
        throw error;
      },
    );
    try {
      await follow?.();
    } finally {
      for (const { name } of gone) this.#unset(name);
      for (const record of put) this.#set({ record, revision });
    }
  }

  async trash(): Promise<readonly LayerNumber[]> {
    return (await this.#store.list(this.#keys.trash)).map(({ value }) => parseLayerNumber(value));
  }

  async forgetTrash(numbers: readonly LayerNumber[]): Promise<void> {
    if (numbers.length === 0) return;
    const changes = numbers.map(number => ({ type: 'delete', key: this.#keys.trashed(number) }) as const);
    await step('layer.forget-trash', () => this.#store.transaction([], changes));
  }

  #requireParent(parent: LayerKey): void {
    const { kind } = this.get(parent);
    if (kind !== 'committed') {
      throw new InvalidArgument(`the parent ${show(parent)} is not committed; commit it first`);
    }
    if (this.#changing.has(parent)) {
      throw new Aborted(`the layer ${show(parent)} is being merged or removed; try again`);
    }
  }

  #set(entry: Entry): void {
    const { name, parent, number } = entry.record;
    this.#unset(name);
    this.#entries.set(name, entry);
    this.#names.set(number, name);
    if (parent === null) return;
    const siblings = this.#children.get(parent);
    if (siblings === undefined) this.#children.set(parent, new Set([name]));
    else siblings.add(name);
  }

  #unset(name: LayerKey): void {
    const { parent = null, number } = this.#entries.get(name)?.record ?? {};
    this.#entries.delete(name);
    // In a freeze the number goes to another layer first.
    if (number !== undefined && this.#names.get(number) === name) this.#names.delete(number);
    if (parent === null) return;
    const siblings = this.#children.get(parent);
    siblings?.delete(name);
    if (siblings?.size === 0) this.#children.delete(parent);
  }

  /** Nobody knows whether a failed transaction happened: memory takes what the store holds. */
  async #reload(names: readonly LayerKey[], cause: unknown): Promise<void> {
    try {
      for (const name of names) {
        const stored = await this.#store.get(this.#keys.layer(name));
        this.#unset(name);
        if (stored !== undefined)
          this.#set({ record: parseLayerRecord(stored, this.#keys), revision: stored.revision });
      }
    } catch {
      this.#doubt = cause;
    }
  }

  #refuseDoubt(): void {
    if (this.#doubt === undefined) return;
    throw new Unavailable(
      `the state database failed (${messageOf(this.#doubt)}), and nobody knows what it holds; restart the daemon`,
    );
  }
}

/** @throws FailedPrecondition, with the cure, when a record of one of these stores is damaged */
export async function checkLayerRecords(store: ObjectStore, names: readonly LayerStoreName[]): Promise<void> {
  for (const name of names) await new LayerCatalog(store, layerKeys(name)).load();
}
