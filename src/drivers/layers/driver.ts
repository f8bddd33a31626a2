import type { LayerAbilities, Stack } from '../../core/layers/layer-disk.ts';
import type { LayerKind, Limit } from '../../core/layers/layer-store.ts';
import type { MountSource } from '../../core/mount.ts';
import type { LayerNumber } from '../../core/names.ts';
import type { Usage } from '../../core/ports.ts';
import type { OpenTree, View } from './archive/archiver.ts';

/**
 * How one kernel facility keeps a stack of layers. `LayerDirectory` does what all have in common: drafts, manifests,
 * the trash, archives.
 *
 * Layer 7 of a store is the directory `ROOT/7`. In it are `layer.json`, `digests`, perhaps `original`, and what the
 * driver makes. A driver writes only into the directories that it is handed, and to `ROOT/l`.
 */
export interface LayerDriver {
  readonly name: string;
  readonly abilities: LayerAbilities;

  /**
   * Fills the directory of a draft (absolute path, empty but for our own files): an empty layer over `below`, its
   * top directory with the owner, mode and extended attributes of theirs (0755 and root's without any). A `view`
   * copies nothing. @throws Unimplemented for a limit that it cannot keep
   */
  make(draft: string, below: Stack | null, plan: MakePlan): Promise<void>;
  /**
   * After a layer got its place, after it was committed, and at each start: what has to exist outside its directory
   * is made, and what a layer of this kind needs no more is deleted.
   */
  placed(stack: Stack, kind: LayerKind): Promise<void>;
  /** Whether `placed` would do nothing; asked of every layer at each start. An error counts as no. */
  isPlaced(stack: Stack, kind: LayerKind): Promise<boolean>;
  mounts(stack: Stack, kind: LayerKind): Promise<readonly MountSource[]>;
  /** Opens a layer to read or change its files below `ROOT/NUMBER`; close it. */
  open(stack: Stack): Promise<OpenTree>;
  /** Opens what a container would see; close it. Nothing is left when the process dies. */
  view(stack: Stack): Promise<View>;
  /**
   * Makes a writable layer what others can rest on, and leaves it writable as long as `placed` has not heard of the
   * commit: a crash in between takes nothing from it, and it is sealed again then.
   */
  seal(stack: Stack): Promise<void>;
  usage(stack: Stack, signal?: AbortSignal): Promise<Usage>;
  /** As {@link LayerDisk.freeze}; `draft` is the absolute path of the draft, a directory without a tree. */
  freeze(stack: Stack, draft: string, limit: Limit | null): Promise<'frozen' | 'writable'>;
  /** As {@link LayerDisk.limit}. */
  limit(stack: Stack, limit: Limit): Promise<void>;
  /** As {@link LayerDisk.merge}. */
  merge(stack: Stack, draft: string): Promise<boolean>;
  /** Which of these layers, in their place or in the trash, a mount anywhere on the host still needs. @throws Unavailable */
  inUse(numbers: readonly LayerNumber[]): Promise<ReadonlySet<LayerNumber>>;
  /** Deletes a layer's directory, of any name, with all that the driver made in it. */
  delete(directory: string): Promise<void>;
  close(): Promise<void>;
}

export interface MakePlan {
  readonly kind: 'active' | 'view';
  readonly limit: Limit | null;
}
