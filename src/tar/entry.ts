/** What an archive says of one file. All text of an archive is bytes: nothing here was ever decoded. */

/** A moment, counted from 1970; before that the seconds are negative, and the nanoseconds still count forwards. */
export interface TarTime {
  readonly seconds: number;
  /** 0 to 999 999 999. */
  readonly nanoseconds: number;
}

export type TarType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarDevice {
  readonly major: number;
  readonly minor: number;
}

/** One member of an archive. It stays valid when the reader goes on. */
export interface TarEntry {
  /** As in the archive: it may be absolute and hold `..`. Never empty, no NUL, no `/` at the end but for `/` itself. */
  readonly path: Buffer;
  readonly type: TarType;
  /** Length of the file in bytes, its holes included; 0 for other types. */
  readonly size: number;
  /** The bits `0o7777`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Where a link leads; empty for other types. A hard link names the path of another member. */
  readonly linkPath: Buffer;
  /** Of a character or block device; 0/0 for other types. */
  readonly device: TarDevice;
  /** Extended attributes by name; a name is latin1 text, so that it keeps its bytes. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** The bounds of what is read and written. Within them, whatever was written can be read. */
export const limits = {
  /** PATH_MAX of Linux. */
  path: 4096,
  /** One extended header (PAX); what Go's archive/tar, and so every container engine, accepts. */
  header: 2 ** 20,
  /** All headers that describe one entry, or stand between two. */
  headers: 2 * 2 ** 20,
  /** XATTR_NAME_MAX of Linux. */
  xattrName: 255,
  /** XATTR_SIZE_MAX of Linux. */
  xattrValue: 65_536,
  /** XATTR_LIST_MAX of Linux, for all names of a file with a NUL after each. */
  xattrNames: 65_536,
  /** All names and values of a file. */
  xattrs: 2 ** 20,
  /** The pieces of data of a sparse file; they are held as numbers, 16 bytes each. */
  pieces: 2 ** 20,
  /** The largest user or group; the one above means "no change" to chown(2). */
  id: 2 ** 32 - 2,
} as const;

export const noXattrs: ReadonlyMap<string, Buffer> = new Map();
export const noDevice: TarDevice = { major: 0, minor: 0 };
export const noBytes: Buffer = Buffer.alloc(0);
