/**
 * A mount as data: what `mount(2)` will be told, and nothing done yet. Core and drivers describe mounts,
 * `host/` performs them.
 */
export interface Mount {
  /** The only kind so far: make `source` appear at `target` as well. */
  readonly type: 'bind';
  /** Absolute path of an existing directory. */
  readonly source: string;
  /** Absolute path of the mount point. */
  readonly target: string;
  readonly readonly: boolean;
}

/** One line of a mount table (proc(5), `/proc/PID/mountinfo`). */
export interface MountEntry {
  readonly id: number;
  readonly parent: number;
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The directory of the file system that is mounted here. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  /** Tags such as `shared:12` or `master:3` (mount_namespaces(7)). */
  readonly propagation: readonly string[];
  readonly fsType: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** A directory that some mount namespace has mounted, and a process of that namespace. */
export interface MountUser {
  readonly pid: number;
  readonly mountPoint: string;
}
