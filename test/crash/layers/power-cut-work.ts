/** What clients of a layer store ask for until the power goes, and what can be known of it afterwards. */
import type { LayerStore } from '../../../src/core/layers/layer-store.ts';
import { Random } from '../random.ts';

/** One call, in words that can be written down. */
export type Work =
  | { readonly step: 'prepare'; readonly key: string; readonly parent: string | null }
  | { readonly step: 'apply'; readonly key: string; readonly archive: number }
  | { readonly step: 'commit'; readonly key: string; readonly name: string; readonly sync: boolean }
  | { readonly step: 'freeze'; readonly key: string; readonly name: string }
  | { readonly step: 'merge'; readonly name: string }
  | { readonly step: 'remove'; readonly name: string }
  | { readonly step: 'sync' };

/** A layer as far as answers tell. */
export interface KnownLayer {
  readonly name: string;
  kind: 'active' | 'committed';
  parent: string | null;
  /** Those that its stack shows, the lowest first. */
  archives: readonly number[];
  /** Whether an answer said that it is on the disk. */
  isSynced: boolean;
}

export function perform(store: LayerStore, work: Work, archives: readonly string[]): Promise<unknown> {
  switch (work.step) {
    case 'prepare':
      return store.prepare(work.key, work.parent === null ? {} : { parent: work.parent });
    case 'apply':
      return store.apply(work.key, { path: archives[work.archive] ?? '' }, { keepOriginal: true });
    case 'commit':
      return store.commit(work.name, work.key, { sync: work.sync });
    case 'freeze':
      return store.freeze(work.key, work.name);
    case 'merge':
      return store.merge(work.name);
    case 'remove':
      return store.remove(work.name);
    case 'sync':
      return store.sync();
  }
}

/** The layers of one client, changed by each answer. */
export class KnownLayers {
  readonly #layers = new Map<string, KnownLayer>();

  all(): readonly KnownLayer[] {
    return [...this.#layers.values()];
  }

  childrenOf(name: string): readonly KnownLayer[] {
    return this.all().filter(({ parent }) => parent === name);
  }

  /** @throws Error when nobody has heard of it */
  get(name: string): KnownLayer {
    const layer = this.#layers.get(name);
    if (layer === undefined) throw new Error(`no answer spoke of ${name}`);
    return layer;
  }

  answered(work: Work): void {
    switch (work.step) {
      case 'prepare': {
        const archives = work.parent === null ? [] : this.get(work.parent).archives;
        this.#add({ name: work.key, kind: 'active', parent: work.parent, archives, isSynced: false });
        break;
      }
      case 'apply': {
        const layer = this.get(work.key);
        layer.archives = [...layer.archives, work.archive];
        break;
      }
      case 'commit': {
        this.#add({ ...this.get(work.key), name: work.name, kind: 'committed', isSynced: work.sync });
        this.#layers.delete(work.key);
        break;
      }
      case 'freeze': {
        const layer = this.get(work.key);
        this.#add({ ...layer, name: work.name, kind: 'committed', isSynced: true });
        layer.parent = work.name;
        break;
      }
      case 'merge': {
        const removed = this.get(work.name);
        for (const child of this.childrenOf(work.name)) {
          child.parent = removed.parent;
          child.isSynced = child.kind === 'committed';
        }
        this.#layers.delete(work.name);
        break;
      }
      case 'remove':
        this.#layers.delete(work.name);
        break;
      case 'sync':
        for (const layer of this.all()) layer.isSynced = layer.kind === 'committed';
    }
  }

  /** What a call that was not answered may have done: the layers that may be there, and the names that may be gone. */
  inDoubt(work: Work): { readonly there: readonly KnownLayer[]; readonly gone: readonly string[] } {
    switch (work.step) {
      case 'prepare':
        return {
          there: [{ name: work.key, kind: 'active', parent: work.parent, archives: [], isSynced: false }],
          gone: [],
        };
      case 'commit':
      case 'freeze': {
        const layer = { ...this.get(work.key), name: work.name, kind: 'committed', isSynced: false } as const;
        return { there: [layer], gone: work.step === 'commit' ? [work.key] : [] };
      }
      case 'merge':
      case 'remove':
        return { there: [], gone: [work.name] };
      case 'apply':
      case 'sync':
        return { there: [], gone: [] };
    }
  }

  #add(layer: KnownLayer): void {
    this.#layers.set(layer.name, layer);
  }
}

const mostLayers = 7;

/** Decides what a client asks for next. */
export class WorkPlan {
  readonly #prefix: string;
  readonly #random: Random;
  readonly #archives: number;
  #made = 0;

  constructor(prefix: string, seed: number, archives: number) {
    this.#prefix = prefix;
    this.#random = new Random(seed);
    this.#archives = archives;
  }

  next(known: KnownLayers): Work {
    const actives = known.all().filter(({ kind }) => kind === 'active');
    const committed = known.all().filter(({ kind }) => kind === 'committed');
    if (committed.length >= mostLayers) return this.#makeRoom(known, committed);
    const [active] = actives;
    if (active === undefined) return this.#prepare(committed);
    const below = active.parent === null ? [] : known.get(active.parent).archives;
    if (active.archives.length === below.length) {
      return { step: 'apply', key: active.name, archive: this.#random.below(this.#archives) };
    }
    return this.#keep(active.name);
  }

  #prepare(committed: readonly KnownLayer[]): Work {
    if (this.#random.below(8) === 0) return { step: 'sync' };
    const isFirst = committed.length === 0 || this.#random.below(4) === 0;
    const parent = isFirst ? null : this.#random.pick(committed).name;
    return { step: 'prepare', key: this.#newName('key'), parent };
  }

  #keep(key: string): Work {
    const name = this.#newName('layer');
    if (this.#random.below(4) === 0) return { step: 'freeze', key, name };
    return { step: 'commit', key, name, sync: this.#random.below(3) > 0 };
  }

  #makeRoom(known: KnownLayers, committed: readonly KnownLayer[]): Work {
    const only = committed.filter(({ name }) => known.childrenOf(name).length === 1);
    const leaves = committed.filter(({ name }) => known.childrenOf(name).length === 0);
    if (leaves.length === 0 || (only.length > 0 && this.#random.below(2) === 0))
      return { step: 'merge', name: this.#random.pick(only).name };
    return { step: 'remove', name: this.#random.pick(leaves).name };
  }

  #newName(what: string): string {
    this.#made += 1;
    return `${this.#prefix}-${what}-${this.#made}`;
  }
}
