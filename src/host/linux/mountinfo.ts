import { readFileSync } from 'node:fs';
import type { MountEntry } from '../../core/mount.ts';
import { fromNodeError } from '../../errors/from-errno.ts';

/**
 * The mount table of a process's mount namespace (proc(5), `/proc/PID/mountinfo`), as text. Since Linux 5.8 a
 * table that changes while it is read still shows every mount that stays. Synchronous: the kernel hands out 4 KiB
 * at a time from memory, and a thread hop for each would take longer than the reading.
 * @throws NotFound when the process is gone
 */
export function readMountinfo(pid: number | 'self'): string {
  const path = `/proc/${pid}/mountinfo`;
  try {
    return readFileSync(path).toString();
  } catch (error) {
    throw fromNodeError(error, `read ${path}`);
  }
}

/** The entries of a mount table, in the order in which they were mounted. */
export function parseMountinfo(text: string): readonly MountEntry[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(parseMountinfoLine);
}

/**
 * One line: `36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; the tags
 * before the dash may be missing, and there may be several.
 */
export function parseMountinfoLine(line: string): MountEntry {
  const fields = line.split(' ');
  const dash = fields.indexOf('-', 6);
  const [id = '', parent = '', device = '', root = '', mountPoint = '', options = ''] = fields;
  const [fsType = '', source = '', superOptions = ''] = fields.slice(dash + 1);
  return {
    id: Number(id),
    parent: Number(parent),
    device,
    root: unescapeMountField(root),
    mountPoint: unescapeMountField(mountPoint),
    options: options.split(','),
    propagation: fields.slice(6, dash),
    fsType: unescapeMountField(fsType),
    source: unescapeMountField(source),
    superOptions: superOptions.split(',').map(unescapeMountField),
  };
}

/** The kernel writes space, tab, newline, backslash and `#` as three octal digits after a backslash. */
export function unescapeMountField(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** A path as it stands in a mount table, for looking it up in the text. */
export function escapeMountField(path: string): string {
  return path.replace(/[ \t\n\\#]/g, char => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** Whether a path is `base` or below it. */
export function isWithin(path: string, base: string): boolean {
  return base === '/' || path === base || path.startsWith(`${base}/`);
}

/** Where a path lies in its file system: what a mount of it shows as device and root. */
export interface FileSystemPlace {
  readonly device: string;
  readonly path: string;
}

/** The place of `path`, an absolute path at or below the mount point of `entry`. */
export function placeUnder(entry: MountEntry, path: string): FileSystemPlace {
  const below = entry.mountPoint === '/' ? path : path.slice(entry.mountPoint.length);
  const joined = `${entry.root === '/' ? '' : entry.root}${below === '/' ? '' : below}`;
  return { device: entry.device, path: joined === '' ? '/' : joined };
}
