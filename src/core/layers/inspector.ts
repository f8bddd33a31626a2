import { InvalidArgument, NotFound } from '../../errors/errors.ts';
import { inTurns } from '../../lib/turn.ts';
import { show } from '../names.ts';
import type { Usage } from '../ports.ts';
import { attribute, type MeasuredLayer, totalsOf } from './attribution.ts';
import type { LayerInfo, LayerStore } from './layer-store.ts';
import type { Collected, Garbage, LayerDetails, LayerView, StoreSpace, StrayView } from './view.ts';

/** A store, with what can be seen of its disk besides its layers. */
export interface InspectedStore extends LayerStore {
  /** Such as `overlay`. */
  readonly driver: string;
  readonly root: string;
  strays(signal?: AbortSignal): Promise<readonly StrayView[]>;
}

/** The stores of a daemon, by name. */
export interface InspectedStores {
  /** The names of those that hold, or have held, layers. */
  made(): Promise<readonly string[]>;
  /** @throws NotFound for an unknown name */
  get(name: string): Promise<InspectedStore>;
}

export interface FoundLayer {
  readonly storeName: string;
  readonly store: InspectedStore;
  readonly info: LayerInfo;
}

/**
 * The layer stores as a person looks at them: all of them, unless one is named. A layer is found by its name, or by
 * the beginning of a name when no other begins so; `sha256:` may be left out.
 */
export class LayerInspector {
  readonly #stores: InspectedStores;

  constructor(stores: InspectedStores) {
    this.#stores = stores;
  }

  /** @throws NotFound */
  store(name: string): Promise<InspectedStore> {
    return this.#stores.get(name);
  }

  /** @throws InvalidArgument for a filter that cannot be read */
  async list(storeName?: string, filters?: readonly string[]): Promise<readonly LayerView[]> {
    const views: LayerView[] = [];
    for (const [name, store] of await this.#selected(storeName)) {
      for await (const info of inTurns(store.walk(filters))) views.push({ store: name, ...info });
    }
    return views;
  }

  /** @throws NotFound; InvalidArgument when several layers are meant */
  async find(name: string, storeName?: string): Promise<FoundLayer> {
    const exact = await this.#exactly(name, storeName);
    const found = exact.length > 0 ? exact : await this.#beginningWith(name, storeName);
    const [first, second] = found;
    if (first === undefined) {
      throw new NotFound(`no such layer: ${show(name)}; \`varve layer ls\` shows those there are`);
    }
    if (second === undefined) return first;
    if (first.info.name === second.info.name) {
      const names = found.map(({ storeName: other }) => other).join(', ');
      throw new InvalidArgument(
        `the layer ${show(first.info.name)} is in several stores: ${names}; choose one with --store`,
      );
    }
    throw new InvalidArgument(
      `${found.length} layers begin with ${show(name)}, such as ${show(first.info.name)} and ${show(second.info.name)}; write more of the name`,
    );
  }

  /**
   * Finds one as {@link find} does, but whoever removes for good has to mean it: its whole name, or as much of its
   * digest as tables show.
   * @throws NotFound; InvalidArgument when several layers are meant
   */
  async findToRemove(name: string, storeName?: string): Promise<FoundLayer> {
    const found = await this.find(name, storeName);
    const isMeant = found.info.name === name || (startOfDigest.test(name) && digest.test(found.info.name));
    if (isMeant) return found;
    throw new NotFound(
      `no layer is named ${show(name)}; to remove ${show(found.info.name)}, write its whole name, or 12 digits or more of its digest`,
    );
  }

  async details(name: string, storeName?: string): Promise<LayerDetails> {
    const found = await this.find(name, storeName);
    const all = await this.list(found.storeName);
    const byName = new Map(all.map(view => [view.name, view]));
    const beneath: string[] = [];
    for (let { parent } = found.info; parent !== null; parent = byName.get(parent)?.parent ?? null) {
      beneath.push(parent);
    }
    const children = all.filter(({ parent }) => parent === found.info.name).map(child => child.name);
    return { store: found.storeName, ...found.info, beneath, children };
  }

  /** Attributes every byte. Measures each active layer, which reads all its directories. */
  async space(storeName?: string, signal?: AbortSignal): Promise<readonly StoreSpace[]> {
    const spaces: StoreSpace[] = [];
    for (const [name, store] of await this.#selected(storeName))
      spaces.push(await spaceOf(name, store, signal));
    return spaces;
  }

  /** What {@link collect} would delete. */
  async garbage(storeName?: string): Promise<Collected> {
    const items: Garbage[] = [];
    for (const [name, store] of await this.#selected(storeName)) {
      const trash = (await store.strays()).filter(({ kind }) => kind === 'trash');
      items.push(...trash.map(item => ({ store: name, ...item })));
    }
    return { items, left: 0 };
  }

  /** Deletes the files of removed layers. */
  async collect(storeName?: string): Promise<Collected> {
    const { items } = await this.garbage(storeName);
    let left = 0;
    for (const [, store] of await this.#selected(storeName)) left += (await store.cleanup()).left;
    const identify = ({ store, number }: Garbage) => `${store} ${number}`;
    const staying = new Set((await this.garbage(storeName)).items.map(identify));
    return { items: items.filter(item => !staying.has(identify(item))), left };
  }

  async #selected(storeName: string | undefined): Promise<readonly (readonly [string, InspectedStore])[]> {
    const names = storeName === undefined ? await this.#stores.made() : [storeName];
    return Promise.all(names.map(async name => [name, await this.#stores.get(name)] as const));
  }

  async #exactly(name: string, storeName: string | undefined): Promise<FoundLayer[]> {
    const found: FoundLayer[] = [];
    for (const [inStore, store] of await this.#selected(storeName)) {
      const info = await unlessMissing(store.stat(name));
      if (info !== undefined) found.push({ storeName: inStore, store, info });
    }
    return found;
  }

  async #beginningWith(name: string, storeName: string | undefined): Promise<FoundLayer[]> {
    const found: FoundLayer[] = [];
    for (const [inStore, store] of await this.#selected(storeName)) {
      for await (const info of inTurns(store.walk())) {
        const isMeant = info.name.startsWith(name) || info.name.startsWith(`sha256:${name}`);
        if (isMeant) found.push({ storeName: inStore, store, info });
      }
    }
    return found;
  }
}

const digest = /^sha256:[0-9a-f]{64}$/;
const startOfDigest = /^(?:sha256:)?[0-9a-f]{12,}$/;

async function spaceOf(name: string, store: InspectedStore, signal?: AbortSignal): Promise<StoreSpace> {
  const measured: MeasuredLayer[] = [];
  for await (const info of inTurns(store.walk())) {
    const usage = info.usage ?? (await measure(store, info, signal));
    if (usage !== undefined) measured.push({ info, usage });
  }
  const layers = attribute(measured);
  const strays = await store.strays(signal);
  const { driver, root } = store;
  return { store: name, driver, root, layers, strays, totals: totalsOf(layers, strays) };
}

/** Null for a damaged layer, whose files may be gone; undefined for one that somebody has removed meanwhile. */
async function measure(
  store: InspectedStore,
  info: LayerInfo,
  signal: AbortSignal | undefined,
): Promise<Usage | null | undefined> {
  if (info.damage !== null) return null;
  return unlessMissing(store.usage(info.name, signal));
}

async function unlessMissing<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof NotFound) return undefined;
    throw error;
  }
}
