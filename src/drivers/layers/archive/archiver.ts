import type {
  Applied,
  ApplyWork,
  Archive,
  LayerChange,
  LongWork,
  Verification,
} from '../../../core/layers/layer-store.ts';
import type { Usage } from '../../../core/ports.ts';

/** An open directory; its descriptor can be used in every thread of this process. */
export interface View {
  readonly fd: number;
  close(): Promise<void>;
}

/**
 * How the files of a layer stand on the disk. `whole`: as a container sees them, with all that is beneath. `delta`:
 * only what the layer changed, in the form of overlayfs (kernel, Documentation/filesystems/overlayfs.rst): a
 * character device 0/0 is a whiteout, the attribute `PREFIXopaque` = `y` hides what is beneath a directory, and
 * attributes with the prefix belong to the union and not to the user.
 */
export type TreeForm = { readonly type: 'whole' } | { readonly type: 'delta'; readonly prefix: DeltaPrefix };

export type DeltaPrefix = 'trusted.overlay.' | 'user.overlay.' | 'user.fuseoverlayfs.';

/** A layer's own files, and what is beneath them. */
export interface OpenTree extends View {
  readonly form: TreeForm;
  /** The absolute path of the layer's directory (`ROOT/NUMBER`), where `digests` and `original` stand. */
  readonly directory: string;
  /** Everything beneath as one tree: null when nothing is, and for the form `whole`. */
  readonly below: View | null;
}

/** What a difference is taken of: one layer that is a delta by itself, or two whole trees, `before` null for nothing. */
export type Comparison =
  | { readonly type: 'delta'; readonly tree: OpenTree }
  | { readonly type: 'trees'; readonly before: View | null; readonly after: View };

/** Two deltas on the same file system, and where they become one. */
export interface Deltas {
  readonly upper: View;
  readonly lower: View;
  /** What is beneath both; null for nothing. */
  readonly below: View | null;
  /** An empty directory. */
  readonly into: View;
  readonly prefix: DeltaPrefix;
  /** Whether directories may have been renamed (`redirect_dir=on`): then `PREFIXredirect` says from where. */
  readonly redirects: boolean;
}

/** An archive that is being written. */
export interface DiffStream {
  /** Throws what the writing failed with; DeadlineExceeded when nobody took the next bytes for long. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Fulfilled when the trees are read no more, whatever became of `bytes`. */
  readonly ended: Promise<void>;
}

/**
 * Reads and writes the files of layers, in worker threads: nothing here keeps the main thread for long. Who opened
 * a tree closes it, after the promise has settled.
 */
export interface Archiver {
  apply(tree: OpenTree, archive: Archive, work: ApplyWork): Promise<Applied>;
  /**
   * The archive that was applied with `keepOriginal`. The stream ends with FailedPrecondition, before its last bytes,
   * when its digest is not `diffId`. @param from the layer, and the directory with what was kept
   */
  original(
    from: { readonly tree: OpenTree; readonly original: View },
    diffId: string,
    work: LongWork,
  ): DiffStream;
  diff(comparison: Comparison, work: LongWork): DiffStream;
  /** Sorted by path; each directory above a change is there too, as modified. */
  changes(comparison: Comparison, work: LongWork): Promise<readonly LayerChange[]>;
  /** What a tree occupies, its top included; hard links count once. */
  measure(tree: View, signal?: AbortSignal): Promise<Usage>;
  /** What the files occupy that differ from those in `before`. */
  measureDifference(before: View, after: View, signal?: AbortSignal): Promise<Usage>;
  /** @param inherited the `digests` files of the layers beneath, nearest first, when the form is `whole` */
  verify(
    tree: OpenTree,
    inherited: readonly string[],
    committedAt: string,
    work: LongWork,
  ): Promise<Verification>;
  /**
   * Copies a tree with everything: owners, modes, times, extended attributes, links, devices, holes; sharing the
   * data where the file system can (FICLONE, then copy_file_range(2), then bytes). @param into an empty directory
   */
  copy(from: View, into: View, work: LongWork): Promise<void>;
  /** Makes one delta of two, with further hard links: no data is copied. */
  merge(deltas: Deltas, signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
