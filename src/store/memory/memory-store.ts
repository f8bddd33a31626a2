import type { Change, Compare, ObjectStore, StoredObject, StoreEvent } from '../../core/ports.ts';
import {
  checkCondition,
  checkPage,
  checkWatch,
  defaultHistoryLimit,
  type Page,
  parseChanges,
  type Write,
} from '../changes.ts';
import { compareKeys } from '../keys.ts';
import { type Batch, batchSize, Watchers } from '../watch.ts';

/** Objects in memory: what the stores on disk are compared with. */
export class MemoryStore implements ObjectStore {
  readonly #objects = new Map<string, StoredObject>();
  readonly #historyLimit: number;
  #history: StoreEvent[] = [];
  #revision = 0;
  #compacted = 0;
  readonly #watchers = new Watchers({
    compacted: () => this.#compacted,
    revision: () => this.#revision,
    after: (revision, prefix) => this.#after(revision, prefix),
  });

  constructor(historyLimit = defaultHistoryLimit) {
    this.#historyLimit = historyLimit;
  }

  async revision(): Promise<number> {
    return this.#revision;
  }

  async get(key: string): Promise<StoredObject | undefined> {
    return structuredClone(this.#objects.get(key));
  }

  async list(prefix: string, page: Page = {}): Promise<readonly StoredObject[]> {
    checkPage(prefix, page);
    const { limit, after } = page;
    const found = [...this.#objects.values()]
      .filter(({ key }) => key.startsWith(prefix) && (after === undefined || compareKeys(key, after) > 0))
      .sort((a, b) => compareKeys(a.key, b.key));
    return structuredClone(limit === undefined ? found : found.slice(0, limit));
  }

  async transaction(compares: readonly Compare[], changes: readonly Change[]): Promise<number> {
    const writes = parseChanges(changes);
    for (const compare of compares) checkCondition(compare, this.#objects.get(compare.key)?.revision ?? 0);
    const effective = writes.filter(({ key, json }) => json !== undefined || this.#objects.has(key));
    if (effective.length === 0) return this.#revision;
    this.#revision += 1;
    for (const write of effective) this.#history.push(this.#apply(write));
    this.#compact();
    this.#watchers.notify();
    return this.#revision;
  }

  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<StoreEvent> {
    checkWatch(prefix, from);
    return this.#watchers.watch(prefix, from, signal);
  }

  async close(): Promise<void> {
    this.#watchers.close();
  }

  #apply({ key, json }: Write): StoreEvent {
    const revision = this.#revision;
    if (json === undefined) {
      this.#objects.delete(key);
      return { type: 'delete', key, revision };
    }
    const createdRevision = this.#objects.get(key)?.createdRevision ?? revision;
    const object = { key, value: JSON.parse(json) as unknown, createdRevision, revision };
    this.#objects.set(key, object);
    return { type: 'put', object };
  }

  #after(revision: number, prefix: string): Batch {
    const newer = this.#history.filter(event => revisionOf(event) > revision);
    const last = newer.at(batchSize - 1);
    const upTo = last === undefined ? this.#revision : revisionOf(last);
    const events = newer.filter(event => revisionOf(event) <= upTo && keyOf(event).startsWith(prefix));
    return { events: structuredClone(events), upTo };
  }

  /** Forgets the oldest history, whole revisions at a time, but never the newest one. */
  #compact(): void {
    const last = this.#history.at(-1 - this.#historyLimit);
    if (last === undefined) return;
    this.#compacted = Math.min(revisionOf(last), this.#revision - 1);
    this.#history = this.#history.filter(event => revisionOf(event) > this.#compacted);
  }
}

function keyOf(event: StoreEvent): string {
  return event.type === 'put' ? event.object.key : event.key;
}

function revisionOf(event: StoreEvent): number {
  return event.type === 'put' ? event.object.revision : event.revision;
}
