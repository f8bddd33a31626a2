/**
 * What the faces show of layers. Plain JSON: the admin socket sends these as they are.
 */
import type { Usage } from '../ports.ts';
import type { LayerInfo, LayerKind } from './layer-store.ts';

export interface LayerView extends LayerInfo {
  readonly store: string;
}

/** Who needs a layer, in the words of the engine that owns its store. */
export interface LayerUser {
  /** `lease`: work under way, or what a client of containerd keeps. */
  readonly kind: 'container' | 'image' | 'build cache' | 'lease';
  readonly name: string;
}

/** Users that may be many. */
export interface LayerUsers {
  readonly count: number;
  /** The first ten. */
  readonly first: readonly LayerUser[];
}

export interface ListedLayer extends LayerView {
  /** Who needs it, or what rests on it; null when no engine owns the store, or the engine does not answer. */
  readonly usedBy: LayerUsers | null;
}

export interface LayerDetails extends ListedLayer {
  /** Names of the layers beneath it, the nearest first. */
  readonly beneath: readonly string[];
  /** Names of the layers that rest on it directly. */
  readonly children: readonly string[];
}

/** Who answers for the bytes of a layer. */
export type Share =
  /** One topmost layer needs it, or it is one itself. */
  | 'own'
  /** Several topmost layers need it, and it is stored once. */
  | 'shared'
  /** Nobody can use it: removing it gives its space back. */
  | 'damaged'
  /** Nothing of the engine refers to it, or to what rests on it: the engine's collector removes it. */
  | 'leaked';

export interface LayerSpace {
  readonly name: string;
  readonly kind: LayerKind;
  readonly parent: string | null;
  readonly number: number;
  readonly diffId: string | null;
  /** Own space, without what is beneath; null when it could not be measured. */
  readonly usage: Usage | null;
  readonly share: Share;
  /** The topmost layers that need it, itself when nothing rests on it. */
  readonly neededBy: Needed;
  /** Who stands on it directly; empty also when no engine says. */
  readonly users: readonly LayerUser[];
  /** Those of the layers above it, too; null when no engine says. */
  readonly usedBy: LayerUsers | null;
}

/** Layers that may be many. */
export interface Needed {
  readonly count: number;
  /** Names of the first ten. */
  readonly first: readonly string[];
}

/** What stands on the disk and is no layer of the records. */
export interface StrayView {
  /**
   * `trash`: removed, {@link LayerStore.cleanup} deletes it; `draft`: being made, or deleted at the next start;
   * `unrecorded`: a layer that the records do not know, which is never deleted.
   */
  readonly kind: 'trash' | 'draft' | 'unrecorded';
  readonly number: number;
  /** Null when nobody knows. */
  readonly name: string | null;
  readonly usage: Usage;
}

/** All that a store holds, each byte in one place. */
export interface StoreSpace {
  readonly store: string;
  readonly driver: string;
  readonly root: string;
  /** Why the engine that owns the store does not say who needs its layers; null when it does, or there is none. */
  readonly engineSilence: string | null;
  /** Each below the one it rests on. */
  readonly layers: readonly LayerSpace[];
  readonly strays: readonly StrayView[];
  /** Bytes. */
  readonly totals: SpaceTotals;
}

export interface SpaceTotals {
  readonly own: number;
  readonly shared: number;
  /** Of what was removed, what is unfinished, and damaged and leaked layers. */
  readonly reclaimable: number;
  /** Of directories that the records do not know. */
  readonly orphaned: number;
  /** The four together. */
  readonly total: number;
  /** What the topmost layers would take if each kept all beneath it for itself. */
  readonly unshared: number;
}

export interface Garbage extends Omit<StrayView, 'kind'> {
  readonly store: string;
  /** `leaked`: a layer that the engine lets go. */
  readonly kind: StrayView['kind'] | 'leaked';
}

export interface Collected {
  /** What was deleted, or would be. */
  readonly items: readonly Garbage[];
  /** Removed layers that could not be deleted yet, because somebody uses them. */
  readonly left: number;
}
