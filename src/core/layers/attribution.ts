import type { Usage } from '../ports.ts';
import type { LayerInfo } from './layer-store.ts';
import type { EngineUsers } from './users.ts';
import type { LayerSpace, LayerUsers, Needed, SpaceTotals, StrayView } from './view.ts';

/** A layer with its own space, null when that is not known. */
export interface MeasuredLayer {
  readonly info: LayerInfo;
  readonly usage: Usage | null;
}

/**
 * Says of each layer who needs it. @param engine what the engine says that owns the store, if one does
 * @returns each below the one it rests on, the oldest first
 */
export function attribute(layers: readonly MeasuredLayer[], engine?: EngineUsers): readonly LayerSpace[] {
  const forest = new Forest(layers.map(({ info }) => info));
  const usages = new Map(layers.map(({ info, usage }) => [info.name, usage]));
  const neededBy = topsOf(forest);
  const usedBy = engine === undefined ? undefined : usersIn(forest, engine);
  return forest.topDown.map(info => {
    const { name, kind, parent, number, diffId, damage } = info;
    const needed = neededBy.get(name) ?? nobody;
    const isLeaked = damage === null && usedBy?.leaked.has(name) === true;
    const share = damage !== null ? 'damaged' : isLeaked ? 'leaked' : needed.count > 1 ? 'shared' : 'own';
    const usage = usages.get(name) ?? null;
    const users = engine?.users.get(name) ?? [];
    const all = usedBy?.users.get(name) ?? null;
    return { name, kind, parent, number, diffId, usage, share, neededBy: needed, users, usedBy: all };
  });
}

/** Adds up what a store holds, each byte once. */
export function totalsOf(layers: readonly LayerSpace[], strays: readonly StrayView[]): SpaceTotals {
  const of = (share: LayerSpace['share']) => sum(layers.filter(layer => layer.share === share));
  const own = of('own');
  const shared = of('shared');
  const reclaimable = of('damaged') + of('leaked') + sum(strays.filter(({ kind }) => kind !== 'unrecorded'));
  const orphaned = sum(strays.filter(({ kind }) => kind === 'unrecorded'));
  const sound = layers.filter(({ share }) => share !== 'damaged' && share !== 'leaked');
  const unshared = sound.reduce((total, layer) => total + sum([layer]) * layer.neededBy.count, 0);
  return { own, shared, reclaimable, orphaned, total: own + shared + reclaimable + orphaned, unshared };
}

/** For each layer, who needs it or what rests on it. */
export function usedBy(layers: readonly LayerInfo[], engine: EngineUsers): ReadonlyMap<string, LayerUsers> {
  return usersIn(new Forest(layers), engine).users;
}

/** The layers that nothing of the engine needs, so that its own collector would remove them; each below the one it rests on. */
export function leakedIn(layers: readonly LayerInfo[], engine: EngineUsers): readonly LayerInfo[] {
  const forest = new Forest(layers);
  const { leaked } = usersIn(forest, engine);
  return forest.topDown.filter(({ name, damage }) => damage === null && leaked.has(name));
}

/** The users of each layer with those above it; and what is leaked because all that rests on it is. */
function usersIn(
  forest: Forest,
  engine: EngineUsers,
): { readonly users: ReadonlyMap<string, LayerUsers>; readonly leaked: ReadonlySet<string> } {
  const users = new Map<string, LayerUsers>();
  const leaked = new Set<string>();
  for (const { name } of [...forest.topDown].reverse()) {
    const children = forest.childrenOf(name);
    const own = engine.users.get(name) ?? [];
    const above = children.map(child => users.get(child.name) ?? unused);
    const count = above.reduce((sum, { count: more }) => sum + more, own.length);
    const first = [...own, ...above.slice(0, maxNamed).flatMap(({ first: some }) => some)];
    users.set(name, { count, first: first.slice(0, maxNamed) });
    const isFree = children.length > 0 && children.every(child => leaked.has(child.name));
    if (engine.leaked.has(name) || (count === 0 && isFree)) leaked.add(name);
  }
  return { users, leaked };
}

const unused: LayerUsers = { count: 0, first: [] };

/** Bytes. */
function sum(all: readonly { readonly usage: Usage | null }[]): number {
  return all.reduce((total, { usage }) => total + (usage?.bytes ?? 0), 0);
}

/** Layers by who rests on whom; one whose parent is not among them stands at the bottom. */
class Forest {
  /** Every layer after the one it rests on, with what rests on it right behind it. */
  readonly topDown: readonly LayerInfo[];
  readonly #children = new Map<string | null, LayerInfo[]>();

  constructor(infos: readonly LayerInfo[]) {
    const names = new Set(infos.map(({ name }) => name));
    for (const info of infos) {
      const parent = info.parent !== null && names.has(info.parent) ? info.parent : null;
      const siblings = this.#children.get(parent) ?? [];
      siblings.push(info);
      this.#children.set(parent, siblings);
    }
    for (const siblings of this.#children.values()) siblings.sort((a, b) => a.number - b.number);
    this.topDown = this.#walk();
  }

  childrenOf(name: string): readonly LayerInfo[] {
    return this.#children.get(name) ?? [];
  }

  /** A stack may be hundreds of layers high: no recursion. */
  #walk(): LayerInfo[] {
    const found: LayerInfo[] = [];
    const pending = [...(this.#children.get(null) ?? [])].reverse();
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      found.push(next);
      pending.push(...[...this.childrenOf(next.name)].reverse());
    }
    return found;
  }
}

const nobody: Needed = { count: 0, first: [] };

/** How many of those who need a layer are named. */
const maxNamed = 10;

/** For each layer the topmost ones above it. */
function topsOf(forest: Forest): ReadonlyMap<string, Needed> {
  const tops = new Map<string, Needed>();
  for (const { name } of [...forest.topDown].reverse()) {
    const children = forest.childrenOf(name);
    const above = children.map(child => tops.get(child.name) ?? nobody);
    // Each child brings one at least.
    const first = above.slice(0, maxNamed).flatMap(needed => needed.first);
    const count = above.reduce((sum, needed) => sum + needed.count, 0);
    const isTop = children.length === 0;
    tops.set(name, isTop ? { count: 1, first: [name] } : { count, first: first.slice(0, maxNamed) });
  }
  return tops;
}
