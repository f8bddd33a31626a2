/**
 * What core needs from outside. `host/linux` does these things, `host/fake` pretends to; both pass the same
 * conformance suites (`test/suites`).
 */
import type { Mount, MountEntry, MountUser } from './mount.ts';

export interface Clock {
  now(): Date;
}

/** Performs and looks up mounts. Mount points are absolute paths. */
export interface Mounter {
  /**
   * Mounts, once: a target that already shows the same source is left alone. A bind of a target on itself only makes
   * what is mounted there read-only.
   * @throws FailedPrecondition when something else is mounted on the target
   * @throws NotFound when source or target is missing
   */
  mount(mount: Mount): Promise<void>;

  /**
   * Unmounts everything that is mounted on exactly this target; a target that is not mounted is fine
   * (umount2(2), EINVAL).
   * @param options `detach` takes a busy one out of sight at once; it ends with its last user (umount2(2), MNT_DETACH)
   * @throws FailedPrecondition when it is busy, and not to be detached
   */
  unmount(target: string, options?: { readonly detach?: boolean }): Promise<void>;

  /** The mount table of this process. */
  table(): Promise<readonly MountEntry[]>;

  /**
   * Who has `directory`, or a directory below it, mounted, in any mount namespace of the host, found by device
   * and root. Mounts on `except` (the mount point we own, or its propagated copies) do not count.
   * @throws Unavailable when a namespace's table cannot be read: then nobody knows
   */
  users(directory: string, except: string): Promise<readonly MountUser[]>;

  /**
   * Whether the process `pid` sees the mount on our mount point `target`: at the same path, or with `elsewhere` at
   * whatever path the directory has over there.
   * @throws Unavailable when its table cannot be read
   */
  visibleTo(pid: number, target: string, where: { readonly elsewhere: boolean }): Promise<boolean>;
}

/** Bytes in order, or the absolute path of a file on this host that holds them. */
export type ByteSource = AsyncIterable<Uint8Array> | { readonly path: string };

/** What a copy has done so far, in bytes; `total` is counted first and may be off while the source changes. */
export interface CopyProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface Usage {
  /** Allocated space, in bytes. */
  readonly bytes: number;
  readonly inodes: number;
}

export interface Attributes {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, as in chmod(2). */
  readonly mode: number;
}

/** The file systems of the host. */
export interface Disk {
  /**
   * Opens a directory as a root that no operation can leave; it is made first, with its parents, when `make`
   * is set. @throws NotFound
   */
  open(path: string, options?: { readonly make?: boolean }): Promise<Directory>;
  /** Whether an absolute path of the host is an existing directory, links followed. */
  isDirectory(path: string): Promise<boolean>;
  /** The absolute path without links of an existing directory of the host, links followed; undefined otherwise. */
  realDirectory(path: string): Promise<string | undefined>;
  /**
   * Copies the contents and attributes of a host directory (owner, mode, times, links, extended attributes,
   * holes) into an existing directory, and brings the copy to the disk.
   * @throws NotFound, Exhausted, Internal; Aborted when the signal fires or the host ends the copy
   */
  copyTree(
    source: string,
    target: Directory,
    path: string,
    options: {
      readonly signal: AbortSignal;
      readonly onProgress: (progress: CopyProgress) => void;
    },
  ): Promise<void>;
}

/** Whether a change is on the disk when the promise resolves; it is, unless it says false. */
export interface Durability {
  readonly durable?: boolean;
}

export interface DirectoryOptions extends Partial<Attributes> {
  readonly exist?: 'ok';
  /** False for a directory that is made again when a crash loses it, or that is synced later; true otherwise. */
  readonly durable?: boolean;
}

/**
 * A directory whose contents are reached by relative paths only. Each path is resolved by the kernel below the
 * root, without following a symbolic link and without crossing a mount (openat2(2): RESOLVE_BENEATH,
 * RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV), so that no name can lead outside.
 *
 * "Durable" means that it is on the disk when the promise resolves. All reject with a VarveError that names
 * the path: Exhausted for a full disk, NotFound, AlreadyExists, Unavailable for a failing disk.
 */
export interface Directory {
  /** The absolute path it was opened with. */
  readonly path: string;
  /** Makes one directory. @throws AlreadyExists unless `exist` is `ok` */
  makeDirectory(path: string, options?: DirectoryOptions): Promise<void>;
  setAttributes(path: string, attributes: Partial<Attributes>): Promise<void>;
  attributes(path: string): Promise<Attributes>;
  /** The text of a file, or undefined when there is none. */
  readFile(path: string): Promise<string | undefined>;
  /**
   * Puts a whole file in place: a reader sees the old text or the new one, also after a power cut when it is durable.
   */
  writeFile(path: string, text: string, options?: Durability): Promise<void>;
  /** Moves within this root. @throws NotFound, AlreadyExists when the target exists */
  rename(from: string, to: string, options?: Durability): Promise<void>;
  /** Brings the entries of the root to the disk, and what was made before below them. */
  sync(): Promise<void>;
  exists(path: string): Promise<boolean>;
  /**
   * What tells a file from every other one, and from itself after a change: device, inode and time of change.
   * Undefined when there is none. Much cheaper than reading it.
   */
  fingerprint(path: string): Promise<string | undefined>;
  /** Names in a directory, sorted. @throws NotFound */
  list(path: string): Promise<readonly string[]>;
  /**
   * Deletes a tree. Refuses, before it deletes anything, when a mount stands in it; a missing tree is fine.
   * @throws FailedPrecondition
   */
  removeTree(path: string): Promise<void>;
  /** Removes one empty directory; a missing one is fine. @throws FailedPrecondition when it is not empty */
  removeDirectory(path: string): Promise<void>;
  /**
   * Makes a directory refuse every change to its entries (ioctl_iflags(2), FS_IMMUTABLE_FL), or lifts that.
   * @returns whether the file system can do it
   */
  setImmutable(path: string, immutable: boolean): Promise<boolean>;
  /** Walks a tree and adds up what it occupies; hard links count once. Slow: never on a request path. */
  usage(path: string, signal: AbortSignal): Promise<Usage>;
  /** Room on the file system that holds the root, in bytes (statvfs(3)). */
  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
  close(): Promise<void>;
}

/** A container that has a volume among its mounts. */
export interface EngineContainer {
  readonly id: string;
  readonly name: string;
  readonly running: boolean;
}

/** What an engine knows of one volume of ours. */
export interface EngineVolume {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly containers: readonly EngineContainer[];
}

/** The container engine's own API. Only the background reconciler may ask: on a request path it deadlocks. */
export interface Engine {
  /**
   * The volumes of one plugin driver that the engine knows.
   * @throws Unavailable
   */
  volumes(driver: string): Promise<readonly EngineVolume[]>;
  /** Name and version, such as `Docker Engine 20.10.24`. @throws Unavailable */
  version(): Promise<string>;
}

/** An object of the store with the revisions at which it was made and last changed. */
export interface StoredObject {
  readonly key: string;
  readonly value: unknown;
  readonly createdRevision: number;
  readonly revision: number;
}

/** A condition of a transaction: the object has exactly this revision; 0 says that it does not exist. */
export interface Compare {
  readonly key: string;
  readonly revision: number;
}

export type Change =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'delete'; readonly key: string };

export type StoreEvent =
  | { readonly type: 'put'; readonly object: StoredObject }
  | { readonly type: 'delete'; readonly key: string; readonly revision: number };

/**
 * Revisioned objects. Every transaction that changes something takes the next revision, one for all of its
 * changes; revisions only grow, also across restarts. Keys are `/`-separated text, values JSON.
 */
export interface ObjectStore {
  /** The revision of the newest transaction; 0 for a new store. */
  revision(): Promise<number>;
  get(key: string): Promise<StoredObject | undefined>;
  /** The objects whose keys start with `prefix`, in key order; at most `limit`, from after the key `after`. */
  list(
    prefix: string,
    page?: { readonly limit?: number; readonly after?: string },
  ): Promise<readonly StoredObject[]>;
  /**
   * Applies all changes or none, and is durable when it resolves.
   * @returns the new revision
   * @throws Aborted when a condition fails
   */
  transaction(compares: readonly Compare[], changes: readonly Change[]): Promise<number>;
  /**
   * Every change under `prefix` after revision `from`, in order, then those to come, until the signal fires.
   * @throws Aborted when the history no longer reaches back to `from`: list again, and watch from there
   */
  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<StoreEvent>;
  close(): Promise<void>;
}

/** A blob of an engine's content store. */
export interface Blob {
  /** `sha256:...` */
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
}

/** The content store of an engine (containerd, core/content). Each namespace sees the blobs that it has itself. */
export interface BlobStore {
  /** A file where the content store is on this host, otherwise the bytes. @throws NotFound, Unavailable */
  read(namespace: string, blob: Blob, signal?: AbortSignal): Promise<ByteSource>;
  /** Keeps the bytes as a blob; one that is there already is fine. A failure leaves nothing. @throws Unavailable */
  write(namespace: string, bytes: AsyncIterable<Uint8Array>, options: WriteBlob): Promise<Blob>;
}

export interface WriteBlob {
  /** Tells this write from others of the same namespace. */
  readonly ref: string;
  /** Asked for when all bytes are there; a blob that is there already gets those that it lacks. */
  labels(): Readonly<Record<string, string>>;
  /**
   * What keeps the blob from garbage collection until somebody refers to it: a lease of the engine. Without one it is
   * kept for about an hour from its first byte on.
   */
  readonly lease?: string | undefined;
  readonly signal?: AbortSignal;
}
