/**
 * What the faces show of layers. Plain JSON: the admin socket sends these as they are.
 */
import type { Usage } from '../ports.ts';
import type { LayerInfo, LayerKind } from './layer-store.ts';

export interface LayerView extends LayerInfo {
  readonly store: string;
}

export interface LayerDetails extends LayerView {
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
  | 'damaged';

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
  /** Each below the one it rests on. */
  readonly layers: readonly LayerSpace[];
  readonly strays: readonly StrayView[];
  /** Bytes. */
  readonly totals: SpaceTotals;
}

export interface SpaceTotals {
  readonly own: number;
  readonly shared: number;
  /** Of what was removed, what is unfinished, and damaged layers. */
  readonly reclaimable: number;
  /** Of directories that the records do not know. */
  readonly orphaned: number;
  /** The four together. */
  readonly total: number;
  /** What the topmost layers would take if each kept all beneath it for itself. */
  readonly unshared: number;
}

export interface Garbage extends StrayView {
  readonly store: string;
}

export interface Collected {
  /** What was deleted, or would be. */
  readonly items: readonly Garbage[];
  /** Removed layers that could not be deleted yet, because somebody uses them. */
  readonly left: number;
}
