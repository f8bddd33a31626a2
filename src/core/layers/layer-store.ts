/**
 * LayerStore: a forest of read-only layers with writable ones on top.
 *
 * Words (containerd, core/snapshots): an *active* layer is writable and has a *key*; *commit* makes it a
 * *committed* layer, read-only for ever, under a *name*; a *view* is a read-only look at a committed layer. Keys and
 * names share one space. The *parent* of a layer is a committed layer, or none; a layer with those beneath it is a
 * *stack*. A view or an active layer is never a parent.
 *
 * ```
 *            prepare(key, parent)                 commit(name, key)
 *   (nothing) ------------------> active key -----------------------> committed name
 *            view(key, parent)                    freeze(key, name): the same, and `key` goes on over `name`
 *   (nothing) ------------------> view key
 * ```
 *
 * An image of two layers, and a container on it:
 *
 * ```ts
 * await store.prepare('a');
 * await store.apply('a', firstArchive);
 * await store.commit('base', 'a');
 * await store.prepare('b', { parent: 'base' });
 * await store.apply('b', secondArchive);
 * await store.commit('image', 'b');
 * const [mount] = await store.prepare('container', { parent: 'image' });   // data: somebody has to mount it
 * ```
 *
 * A store has one owner: the volumes, or one engine. Keys may hold any character; on the disk a layer has a number.
 * The records decide and the disk follows: each call leaves everything or nothing, whenever the process dies.
 */
import type { MountSource } from '../mount.ts';
import type { ByteSource, CopyProgress, Usage } from '../ports.ts';

export type LayerKind = 'active' | 'view' | 'committed';
export type Labels = Readonly<Record<string, string>>;

/** What can be known of a layer without looking at its files. */
export interface LayerInfo {
  /** Its key, or its name once it is committed. */
  readonly name: string;
  readonly kind: LayerKind;
  readonly parent: string | null;
  readonly labels: Labels;
  /** RFC 3339; a commit counts as a creation. */
  readonly createdAt: string;
  readonly updatedAt: string;
  /** What names it on the disk. */
  readonly number: number;
  /** What a writable layer may take; null without a limit. */
  readonly limit: Limit | null;
  /** Own space when it was committed; null for an active layer or a view, and while a frozen one was not measured. */
  readonly usage: Usage | null;
  /**
   * Digest of the uncompressed archive that was applied to it, `sha256:...`; null after none or several. What
   * somebody wrote to it besides is not in it.
   */
  readonly diffId: string | null;
  /** Why it cannot be used; null for a sound layer. */
  readonly damage: string | null;
}

/** The most that a writable layer may take itself, beside what its parent holds. */
export interface Limit {
  readonly bytes: number;
  readonly inodes?: number;
}

export interface PrepareOptions {
  readonly parent?: string;
  readonly labels?: Labels;
}

export interface CommitOptions {
  /** Those of the committed layer; the labels of the active one end with it. */
  readonly labels?: Labels;
  /**
   * `false` leaves bringing the data to the disk to a later {@link LayerStore.sync}, one for several layers. A
   * power cut before that leaves the layer damaged: it is refused until it is removed. `unneeded` says that nobody
   * misses what a power cut takes from it.
   */
  readonly sync?: boolean | 'unneeded';
  /** Nothing is committed when nobody waits for it any more at the moment before it would be recorded. */
  readonly signal?: AbortSignal;
}

/** A tar archive, plain or compressed with gzip or zstd. */
export type Archive = ByteSource;

export interface LongWork {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CopyProgress) => void;
}

export interface ApplyWork extends LongWork {
  /** Whether the data is brought to the disk before it is recorded that it is there; a commit does so in any case. */
  readonly sync?: boolean;
  /**
   * Whether {@link LayerStore.original} can give the archive back: everything of it but the contents of its files is
   * kept beside the layer. It can as long as no other archive is applied to it, and nothing merged into it.
   */
  readonly keepOriginal?: boolean;
}

export interface Applied {
  /** Of the uncompressed archive, `sha256:...`: the DiffID of the OCI image spec. */
  readonly diffId: string;
  /** Length of the uncompressed archive, in bytes. */
  readonly size: number;
  /** Sum of the lengths of the regular files in it, hard links counted once. */
  readonly bytes: number;
  readonly entries: number;
}

/** A path that differs between two layers. */
export interface LayerChange {
  /** Absolute within the layer. A name that is not UTF-8 shows U+FFFD for each byte that is not. */
  readonly path: string;
  readonly kind: 'added' | 'modified' | 'deleted';
  /** Length of a regular file, counted for the first of its hard links; otherwise 0. */
  readonly bytes: number;
}

/** What a re-reading of a layer found. */
export interface Verification {
  /** Files whose content and attributes are as recorded. */
  readonly verified: number;
  /** Files that had no record yet: what they hold now is recorded. */
  readonly recorded: number;
  readonly bytes: number;
  readonly problems: readonly VerificationProblem[];
}

export interface VerificationProblem {
  readonly path: string;
  readonly problem: 'content differs' | 'attributes differ' | 'missing' | 'unexpected' | 'unreadable';
}

export interface Cleaned {
  /** Removed layers whose files could not be deleted yet. */
  readonly left: number;
}

/**
 * `apply`, `commit`, `freeze`, `merge`, `remove` and `update` wait for others on the same layer, with a deadline
 * (DeadlineExceeded). Every call throws InvalidArgument for a key or name that is empty, longer than 4096 bytes or
 * holds a NUL, and NotFound for one that does not exist.
 */
export interface LayerStore {
  /**
   * Makes a writable layer. @returns what shows it with all that is beneath
   * @throws AlreadyExists when the key is taken; InvalidArgument when the parent is not committed; Unimplemented
   * when the driver cannot keep the limit
   */
  prepare(
    key: string,
    options?: PrepareOptions & { readonly limit?: Limit },
  ): Promise<readonly MountSource[]>;
  /** Makes a read-only look at a parent, or at nothing. @throws as prepare does */
  view(key: string, options?: PrepareOptions): Promise<readonly MountSource[]>;
  /** @throws FailedPrecondition for a committed layer */
  mounts(key: string): Promise<readonly MountSource[]>;
  /**
   * The layer that mounts show which this store has given out: an active one, the parent of a view, or a view of
   * nothing. Undefined for any other mounts.
   */
  layerOf(mounts: readonly MountSource[]): LayerInfo | undefined;
  /**
   * Makes an active layer read-only for ever, under another name; the key is free again. The data is on the disk
   * before the record is, unless the caller waives it.
   * @throws AlreadyExists, FailedPrecondition when `key` is no active layer, or holds half of an archive
   */
  commit(name: string, key: string, options?: CommitOptions): Promise<void>;
  /** Brings the data of all committed layers to the disk. */
  sync(): Promise<void>;
  /**
   * Commits an active layer that nobody has mounted, and goes on with a new one of the same key, labels and limit
   * over it. @throws as commit does; FailedPrecondition when it is mounted and the driver needs it idle
   */
  freeze(key: string, name: string): Promise<void>;
  /**
   * Folds a committed layer into the only layer that rests on it, so that the stack is one shorter and what both
   * held is kept once; who has the stack mounted keeps what it sees.
   * @throws FailedPrecondition when several layers, or none, rest on it, or one that is being written to
   */
  merge(name: string): Promise<void>;
  /** Removes a layer; its space is free after {@link cleanup}. @throws FailedPrecondition while others rest on it */
  remove(key: string): Promise<void>;
  stat(key: string): Promise<LayerInfo>;
  /**
   * Changes labels. @param mask `labels`, or `labels.NAME` for single ones; without one all labels are replaced
   * @throws InvalidArgument for any other field in the mask
   */
  update(change: Pick<LayerInfo, 'name' | 'labels'>, mask?: readonly string[]): Promise<LayerInfo>;
  /**
   * All layers for which one of the filters holds, or all. A filter is containerd's: `name`, `parent`, `kind`,
   * `labels.NAME` with `==`, `!=`, `~=` or nothing for presence, `,` for "and".
   * @throws InvalidArgument for a filter that cannot be read
   */
  walk(filters?: readonly string[]): AsyncIterable<LayerInfo>;
  /** Own space, without what is beneath: that of an active layer is measured, slowly. */
  usage(key: string, signal?: AbortSignal): Promise<Usage>;
  /** Deletes the files of removed layers. */
  cleanup(): Promise<Cleaned>;

  /**
   * Unpacks an archive of the OCI image spec (layer.md) into an active layer. When it fails the layer can only be
   * removed. @throws InvalidArgument for an archive that is cut off, broken or hostile
   */
  apply(key: string, archive: Archive, work?: ApplyWork): Promise<Applied>;
  /**
   * The changes from `base` (null: from nothing) to a layer, as an uncompressed archive that is the same to the
   * byte each time. A failure ends the stream with an error.
   */
  diff(base: string | null, key: string, work?: LongWork): Promise<AsyncIterable<Uint8Array>>;
  /**
   * The archive that was applied to a layer, uncompressed, the same to the byte. What does not come out as it was
   * ends the stream with an error. @throws FailedPrecondition when it was not kept
   */
  original(key: string, work?: LongWork): Promise<AsyncIterable<Uint8Array>>;
  changes(base: string | null, key: string, work?: LongWork): Promise<readonly LayerChange[]>;
  /** Re-reads a committed layer. @throws FailedPrecondition for any other */
  verify(name: string, work?: LongWork): Promise<Verification>;
  close(): Promise<void>;
}
