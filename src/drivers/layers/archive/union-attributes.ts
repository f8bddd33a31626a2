import { fromErrno } from '../../../errors/from-errno.ts';
import { fchmod, fchown, futimes } from '../../../host/linux/file-calls.ts';
import { fstat } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { getXattr, listXattrs, setXattr } from '../../../host/linux/xattr-calls.ts';

/**
 * Gives an open directory the owner, mode, attributes and times of another.
 * @param prefix of the attributes that belong to a union: those say what is beneath the one, not the other
 */
export function copyDirectoryAttributes(from: number, to: number, prefix: string): void {
  const status = fstat(from);
  if (typeof status === 'number') throw fromErrno(-status, 'look at a directory');
  const { uid, gid, mode, accessTime, mtime } = status;
  check(fchown(to, uid, gid), 'change the owner of a directory');
  const names = listXattrs(from);
  if (typeof names === 'number') throw fromErrno(-names, 'list the attributes of a directory');
  for (const name of names.filter(candidate => isKept(candidate, prefix))) {
    const value = getXattr(from, name);
    if (typeof value === 'number') throw fromErrno(-value, `read the attribute ${name}`);
    check(setXattr(to, name, value), `set the attribute ${name}`);
  }
  // After chown, which clears the set-user-ID bits.
  check(fchmod(to, mode), 'change the mode of a directory');
  check(futimes(to, accessTime, mtime), 'set the times of a directory');
}

/**
 * `overlay.` after the prefix escapes an attribute of the user's that has the prefix itself; `protattr` holds flags
 * of chattr(1); `impure` says that files in the directory were copied up.
 */
function isKept(name: string, prefix: string): boolean {
  if (!name.startsWith(prefix)) return true;
  const rest = name.slice(prefix.length);
  return rest.startsWith('overlay.') || rest === 'protattr' || rest === 'impure';
}
