import { check } from '../../../host/linux/native.ts';
import { getXattr, listXattrs, type XattrTarget } from '../../../host/linux/xattr-calls.ts';
import type { TreeForm } from './archiver.ts';
import { hostLabel } from './digests.ts';

const none: ReadonlyMap<string, Buffer> = new Map();
/** What fuse-overlayfs leaves on files that it copied up. */
const fuseOverlayfsPrefix = 'user.fuseoverlayfs.';
const ENODATA = 61;
const EOPNOTSUPP = 95;
const EPERM = 1;

/** All extended attributes as they stand on the disk, sorted by name; none where the file system has none. */
export function readXattrs(target: XattrTarget): ReadonlyMap<string, Buffer> {
  const names = listXattrs(target);
  if (names === -EOPNOTSUPP || names === -EPERM) return none;
  if (typeof names === 'number') return none.size === check(names, 'list extended attributes') ? none : none;
  if (names.length === 0) return none;
  const found = new Map<string, Buffer>();
  for (const name of [...names].sort()) {
    const value = getXattr(target, name);
    if (value === -ENODATA) continue;
    if (typeof value === 'number') check(value, `read the extended attribute ${name}`);
    else found.set(name, value);
  }
  return found;
}

/**
 * What belongs to the user: in a delta without the union's own attributes, and with those that were escaped because
 * they look like them (kernel, Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts"). The host's
 * label is left out.
 */
export function userXattrs(onDisk: ReadonlyMap<string, Buffer>, form: TreeForm): ReadonlyMap<string, Buffer> {
  if (onDisk.size === 0) return none;
  const prefix = form.type === 'delta' ? form.prefix : undefined;
  const found: [string, Buffer][] = [];
  for (const [name, value] of onDisk) {
    if (name === hostLabel || (prefix !== undefined && name.startsWith(fuseOverlayfsPrefix))) continue;
    if (prefix === undefined || !name.startsWith(prefix)) found.push([name, value]);
    else if (name.startsWith(`${prefix}overlay.`)) {
      found.push([prefix + name.slice(prefix.length + 'overlay.'.length), value]);
    }
  }
  return new Map(found.sort(([one], [other]) => (one < other ? -1 : 1)));
}

export function sameXattrs(one: ReadonlyMap<string, Buffer>, other: ReadonlyMap<string, Buffer>): boolean {
  if (one.size !== other.size) return false;
  return [...one].every(([name, value]) => other.get(name)?.equals(value));
}
