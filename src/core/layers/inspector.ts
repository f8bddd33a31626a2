import {
  FailedPrecondition,
  InvalidArgument,
  messageOf,
  NotFound,
  Unavailable,
} from '../../errors/errors.ts';
import { inTurns } from '../../lib/turn.ts';
import { show } from '../names.ts';
import type { Usage } from '../ports.ts';
import { attribute, leakedIn, type MeasuredLayer, totalsOf, usedBy } from './attribution.ts';
import type { LayerInfo, LayerStore } from './layer-store.ts';
import type { EngineUsers, LayerEngine } from './users.ts';
import type { Collected, Garbage, LayerDetails, ListedLayer, StoreSpace, StrayView } from './view.ts';

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
  readonly #engines: Readonly<Record<string, LayerEngine>>;

  /** @param engines those that own a store, by the name of the store */
  constructor(stores: InspectedStores, engines: Readonly<Record<string, LayerEngine>> = {}) {
    this.#stores = stores;
    this.#engines = engines;
  }

  /** @throws NotFound */
  store(name: string): Promise<InspectedStore> {
    return this.#stores.get(name);
  }

  /** @throws InvalidArgument for a filter that cannot be read */
  async list(storeName?: string, filters?: readonly string[]): Promise<readonly ListedLayer[]> {
    const views: ListedLayer[] = [];
    for (const [name, store] of await this.#selected(storeName)) {
      const users = await this.#usersIn(name, store);
      for await (const info of inTurns(store.walk(filters))) {
        views.push({ store: name, ...info, usedBy: users?.get(info.name) ?? null });
      }
    }
    return views;
  }

  async #usersIn(name: string, store: InspectedStore): Promise<ReturnType<typeof usedBy> | undefined> {
    if (this.#engines[name] === undefined) return undefined;
    const layers = await layersIn(store);
    const { found } = await this.#ask(name, layers);
    return found && usedBy(layers, found);
  }

  /** An engine that does not answer leaves a person with what varve knows by itself. */
  async #ask(name: string, layers: readonly LayerInfo[]): Promise<Asked> {
    const engine = this.#engines[name];
    if (engine === undefined) return { found: undefined, silence: null };
    try {
      return { found: await engine.users(layers), silence: null };
    } catch (error) {
      return { found: undefined, silence: messageOf(error) };
    }
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
   * @throws NotFound; InvalidArgument when several layers are meant; FailedPrecondition for one that an engine needs
   */
  async findToRemove(name: string, storeName?: string): Promise<FoundLayer> {
    const found = await this.find(name, storeName);
    const isMeant = found.info.name === name || (startOfDigest.test(name) && digest.test(found.info.name));
    if (!isMeant) {
      throw new NotFound(
        `no layer is named ${show(name)}; to remove ${show(found.info.name)}, write its whole name, or 12 digits or more of its digest`,
      );
    }
    if (found.info.damage === null) await this.#requireUnused(found);
    return found;
  }

  /** An engine would miss a layer that it has in its records. @throws FailedPrecondition, Unavailable */
  async #requireUnused({ storeName, store, info }: FoundLayer): Promise<void> {
    if (this.#engines[storeName] === undefined) return;
    const layers = await layersIn(store);
    const { found, silence } = await this.#ask(storeName, layers);
    if (found === undefined) {
      throw new Unavailable(
        `nobody knows whether the engine needs the layer ${show(info.name)}: ${silence}; start the engine, and repeat`,
      );
    }
    const [user] = usedBy(layers, found).get(info.name)?.first ?? [];
    if (user === undefined) return;
    throw new FailedPrecondition(
      `the layer ${show(info.name)} is needed by the ${user.kind} ${show(user.name)} of an engine; remove that with the engine`,
    );
  }

  /** @throws FailedPrecondition for the store of an engine */
  requireNoEngine(storeName: string): void {
    if (this.#engines[storeName] === undefined) return;
    throw new FailedPrecondition(
      `the layer store ${storeName} belongs to an engine, which removes every layer that it does not know; choose another one with --store`,
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
    const users = byName.get(found.info.name)?.usedBy ?? null;
    return { store: found.storeName, ...found.info, usedBy: users, beneath, children };
  }

  /** Attributes every byte. Measures each active layer, which reads all its directories. */
  async space(storeName?: string, signal?: AbortSignal): Promise<readonly StoreSpace[]> {
    const spaces: StoreSpace[] = [];
    for (const [name, store] of await this.#selected(storeName))
      spaces.push(await this.#space(name, store, signal));
    return spaces;
  }

  async #space(name: string, store: InspectedStore, signal?: AbortSignal): Promise<StoreSpace> {
    const measured: MeasuredLayer[] = [];
    for await (const info of inTurns(store.walk())) {
      const usage = info.usage ?? (await measure(store, info, signal));
      if (usage !== undefined) measured.push({ info, usage });
    }
    const { found, silence } = await this.#ask(
      name,
      measured.map(({ info }) => info),
    );
    const layers = attribute(measured, found);
    const strays = await store.strays(signal);
    const { driver, root } = store;
    return {
      store: name,
      driver,
      root,
      engineSilence: silence,
      layers,
      strays,
      totals: totalsOf(layers, strays),
    };
  }

  /** What {@link collect} would delete. */
  async garbage(storeName?: string): Promise<Collected> {
    const items: Garbage[] = [];
    for (const [name, store] of await this.#selected(storeName)) {
      const trash = (await store.strays()).filter(({ kind }) => kind === 'trash');
      items.push(...trash.map(item => ({ store: name, ...item })), ...(await this.#leaked(name, store)));
    }
    return { items, left: 0 };
  }

  async #leaked(name: string, store: InspectedStore): Promise<readonly Garbage[]> {
    if (this.#engines[name] === undefined) return [];
    const layers = await layersIn(store);
    const { found } = await this.#ask(name, layers);
    const items: Garbage[] = [];
    for (const info of found === undefined ? [] : leakedIn(layers, found)) {
      const usage = info.usage ?? (await unlessMissing(store.usage(info.name)));
      if (usage !== undefined)
        items.push({ store: name, kind: 'leaked', number: info.number, name: info.name, usage });
    }
    return items;
  }

  /** Lets engines remove what they have leaked, and deletes the files of removed layers. */
  async collect(storeName?: string): Promise<Collected> {
    const { items } = await this.garbage(storeName);
    for (const name of new Set(items.filter(({ kind }) => kind === 'leaked').map(({ store }) => store))) {
      await this.#engines[name]?.collect();
    }
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

async function layersIn(store: InspectedStore): Promise<readonly LayerInfo[]> {
  const layers: LayerInfo[] = [];
  for await (const info of inTurns(store.walk())) layers.push(info);
  return layers;
}

interface Asked {
  readonly found: EngineUsers | undefined;
  /** Why there is no answer; null when there is one, or nobody to ask. */
  readonly silence: string | null;
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
