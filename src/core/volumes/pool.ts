import type { Mount } from '../mount.ts';
import type { DriverName, PoolName, VolumeName, VolumeNumber } from '../names.ts';
import type { Attributes, CopyProgress, Usage } from '../ports.ts';

/**
 * What is written beside a volume's data as `volume.json`: enough to restore its record when the state
 * database is lost.
 */
export interface VolumeManifest {
  readonly version: 1;
  readonly number: VolumeNumber;
  readonly name: VolumeName;
  /** The driver name under which engines see it. */
  readonly driver: DriverName;
  /** The options it was made with, as given. */
  readonly options: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly protected: boolean;
}

/** What a pool can honour. The planner refuses a request by this table and by nothing else. */
export interface PoolCapabilities {
  /** `hard`: a size ends in ENOSPC or EDQUOT at the limit. `none`: a size is refused. */
  readonly quota: 'hard' | 'none';
}

/**
 * A place where volumes live. A pool knows bytes and directories; names, consumers and protection are the
 * business of {@link VolumeService}.
 *
 * Life of a volume: `create` makes the directory whole or not at all; `mounts` says how to publish it; `remove`
 * moves it to the pool's trash, which `emptyTrash` deletes later. Each is safe to repeat after a crash.
 *
 * A pool's root holds a marker with the pool's UUID. Without it (a disk that is not mounted) every operation
 * rejects with Unavailable and creates nothing.
 */
export interface Pool {
  readonly name: PoolName;
  /** The kind of pool, such as `directory`. */
  readonly driver: string;
  readonly root: string;
  readonly capabilities: PoolCapabilities;

  /** Checks that the pool is there and is the one it should be. @throws Unavailable with the way out */
  probe(): Promise<void>;

  /**
   * Makes a volume's place: its data directory and manifest. Repeating it is fine.
   * @throws Exhausted; AlreadyExists when the number is the place of another volume
   */
  create(manifest: VolumeManifest, attributes: Partial<Attributes>): Promise<void>;

  /**
   * Like {@link create}, with a copy of the host directory `source` as its data; what an earlier, interrupted
   * call left is thrown away first. @throws NotFound, Exhausted; Aborted when the signal fires
   */
  createFrom(
    manifest: VolumeManifest,
    attributes: Partial<Attributes>,
    source: string,
    options: {
      readonly signal: AbortSignal;
      readonly onProgress: (progress: CopyProgress) => void;
    },
  ): Promise<void>;

  /** Replaces the manifest beside the data. @throws NotFound */
  writeManifest(manifest: VolumeManifest): Promise<void>;

  /** The mounts that make the volume appear at `target`. */
  mounts(number: VolumeNumber, target: string): readonly Mount[];
  /** The directory that consumers have mounted, as the kernel's mount tables show it. */
  dataPath(number: VolumeNumber): string;

  /** Moves a volume out of sight, for good. One that is gone, or was never whole, is fine. */
  remove(number: VolumeNumber): Promise<void>;
  /** Deletes what `remove` put aside. @returns how many trees could not be deleted yet */
  emptyTrash(): Promise<number>;

  /** Whether a volume's data directory is there. */
  has(number: VolumeNumber): Promise<boolean>;
  /** The numbers of all volumes on the disk, in order. */
  numbers(): Promise<readonly VolumeNumber[]>;
  /** What the manifest beside the data says, or why it cannot be read. */
  read(number: VolumeNumber): Promise<FoundVolume>;
  /** Walks the volume: slow, never on a request path. */
  usage(number: VolumeNumber, signal: AbortSignal): Promise<Usage>;
  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
}

export type FoundVolume =
  | { readonly number: VolumeNumber; readonly manifest: VolumeManifest }
  | { readonly number: VolumeNumber; readonly damage: string };
