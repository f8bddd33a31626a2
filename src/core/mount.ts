/**
 * A mount as data: what the kernel will be told, and nothing done yet. Core and drivers describe mounts,
 * `host/` performs them.
 */
export type Mount = MountSource & {
  /** Absolute path of the mount point. */
  readonly target: string;
};

/** What is to be mounted, wherever. */
export type MountSource = BindSource | OverlaySource;

export interface BindSource {
  /** Makes `source` appear at the target as well. */
  readonly type: 'bind';
  /** Absolute path of an existing directory. */
  readonly source: string;
  readonly readonly: boolean;
}

/** A union of directories; without an `upperdir=` among the options it is read-only. */
export interface OverlaySource {
  /** The kernel's own, or Debian's program of that name, which does the same in user space. */
  readonly type: 'overlay' | 'fuse-overlayfs';
  /** As mount(8) takes them, each `name` or `name=value`; in values `\`, `:` and `,` are escaped. */
  readonly options: readonly string[];
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
