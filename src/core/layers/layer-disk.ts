import type { MountSource } from '../mount.ts';
import type { LayerNumber } from '../names.ts';
import type { Durability, Usage } from '../ports.ts';
import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LayerKind,
  Limit,
  LongWork,
  Verification,
} from './layer-store.ts';
import type { LayerManifest } from './record.ts';

/** A layer and all that is beneath it, from the top down. */
export type Stack = readonly [LayerNumber, ...LayerNumber[]];

export interface LayerAbilities {
  /** Which limits of a writable layer end in ENOSPC or EDQUOT; others are refused. */
  readonly limits: readonly ('bytes' | 'inodes')[];
  /** `constant`: a new layer costs the same whatever is beneath; `copy`: everything beneath is copied. */
  readonly snapshot: 'constant' | 'copy';
  /** Whether a layer can be frozen while somebody has it mounted. */
  readonly freezesInUse: boolean;
}

/** One layer of {@link LayerDisk.placeAll}. */
export interface PlacedLayer {
  readonly stack: Stack;
  readonly kind: LayerKind;
}

/** The numbers that a disk holds, whatever the records say. */
export interface FoundLayers {
  readonly layers: readonly LayerNumber[];
  readonly drafts: readonly LayerNumber[];
  /** In the trash, where somebody may still use them. */
  readonly removed: readonly LayerNumber[];
}

/** What stands on the disk and is no layer of the records. */
export interface Stray {
  readonly kind: 'trash' | 'draft' | 'unrecorded';
  readonly number: LayerNumber;
  /** Name in the manifest, where it can be read. */
  readonly name: string | null;
  readonly usage: Usage;
}

/**
 * The disk below a {@link LayerStore}: layers by number, and no names. What is made is a *draft* (`new-NUMBER`)
 * until `place` gives it its own name; what is removed is in the trash until `emptyTrash`. Nothing else is ever
 * deleted. Every call can be repeated after a crash. All throw Unavailable when the disk is not there.
 */
export interface LayerDisk {
  /** Such as `overlay`. */
  readonly driver: string;
  readonly root: string;
  readonly abilities: LayerAbilities;

  /**
   * Makes the draft of an empty layer, the first of the stack, over those beneath; its top directory is like theirs.
   * Durable but for the manifest. @throws Unimplemented for a limit that it cannot keep
   */
  draft(stack: Stack, manifest: LayerManifest): Promise<void>;
  /**
   * Turns a draft into a layer, and a layer into one of this kind after its record was changed; again at each start.
   * @throws NotFound
   */
  place(stack: Stack, kind: LayerKind): Promise<void>;
  /**
   * The same for all layers of a store, at its start.
   * @returns why some of them cannot be used
   */
  placeAll(layers: readonly PlacedLayer[]): Promise<ReadonlyMap<LayerNumber, Error>>;
  /** What shows a layer: writable for `active`, otherwise not. */
  mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]>;
  /**
   * The layers whose directories mounts show, from the top down; for a bind only the first.
   * @returns undefined when another directory is among them
   */
  shown(mounts: readonly MountSource[]): Stack | undefined;
  /**
   * Makes a writable layer what others can rest on, and measures it. It is not brought to the disk; and until
   * `place` hears of the commit it stays as writable as it was.
   */
  seal(stack: Stack): Promise<Usage>;
  /** Brings everything on this disk to rest, `syncfs(2)`; callers that come at one time share one call. */
  sync(): Promise<void>;
  /**
   * Makes the draft `next`, so that of the two one holds what the writable layer held, sealed, and the other is the
   * writable layer over it. @returns which of them is at the number `next`
   * @throws FailedPrecondition when it is mounted, and cannot be frozen then
   */
  freeze(stack: Stack, next: LayerNumber, limit: Limit | null): Promise<'frozen' | 'writable'>;
  /**
   * Limits a writable layer that may be in use; again is fine. It is on the disk then.
   * @throws Unimplemented for a limit that it cannot keep; Unavailable when it cannot yet
   */
  limit(stack: Stack, limit: Limit): Promise<void>;
  /**
   * Makes the draft `next` of the first two layers of a stack in one.
   * @returns false when the first one holds everything already, and no draft was needed
   */
  merge(stack: Stack, next: LayerNumber): Promise<boolean>;
  /** Replaces the manifest of a layer or a draft. */
  writeManifest(manifest: LayerManifest, options?: Durability): Promise<void>;
  /** Why a manifest cannot be read is in `unreadable`. */
  readManifest(number: LayerNumber): Promise<LayerManifest | { readonly unreadable: string }>;
  /** Moves a layer, and its draft, to the trash; one that is not there is fine. */
  remove(number: LayerNumber): Promise<void>;
  dropDraft(number: LayerNumber): Promise<void>;
  /** @returns how many trees could not be deleted yet, because somebody uses them */
  emptyTrash(): Promise<number>;
  /** The drafts and the trash, and these layers, measured: slow. */
  strays(unrecorded: readonly LayerNumber[], signal?: AbortSignal): Promise<readonly Stray[]>;
  found(): Promise<FoundLayers>;

  apply(stack: Stack, archive: Archive, work: ApplyWork): Promise<Applied>;
  /** As {@link LayerStore.original}; the layer had one archive applied to it. @param diffId of that */
  original(stack: Stack, diffId: string, work: LongWork): Promise<AsyncIterable<Uint8Array>>;
  /** Deletes what `keepOriginal` kept; nothing is fine. */
  dropOriginal(number: LayerNumber): Promise<void>;
  /** @param before null for nothing */
  diff(before: Stack | null, after: Stack, work: LongWork): Promise<AsyncIterable<Uint8Array>>;
  changes(before: Stack | null, after: Stack, work: LongWork): Promise<readonly LayerChange[]>;
  usage(stack: Stack, signal?: AbortSignal): Promise<Usage>;
  /** @param committedAt RFC 3339: what changed after that should not have */
  verify(stack: Stack, committedAt: string, work: LongWork): Promise<Verification>;
  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
  close(): Promise<void>;
}
