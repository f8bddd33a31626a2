import { InvalidArgument, Unimplemented } from '../../../errors/errors.ts';
import {
  type FileTime,
  fchmod,
  fchmodat,
  fchown,
  futimes,
  lchownat,
  lutimesat,
} from '../../../host/linux/file-calls.ts';
import { type FileStatus, type FileType, fstat, lstatat, mustBe } from '../../../host/linux/file-status.ts';
import { check, shown } from '../../../host/linux/native.ts';
import { removeXattr, setXattr, type XattrTarget } from '../../../host/linux/xattr-calls.ts';
import type { TreeForm } from './archiver.ts';
import { hostLabel } from './digests.ts';
import { readXattrs } from './walk-xattrs.ts';

/** What apply gives to a file. */
export interface NewAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: FileTime;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

const [EPERM, EOPNOTSUPP] = [1, 95];
/** utimensat(2), UTIME_OMIT: leave it as it is. */
export const unchanged: FileTime = { seconds: 0, nanoseconds: 0x3ffffffe };
/** Inherited by what is made in a directory that has the second one (acl(5)). */
const inheritedAcls = ['system.posix_acl_access', 'system.posix_acl_default'];

/** A name in a directory, or an open file or directory beside it: what `chown` and the like are called on. */
export interface Target {
  readonly directory: number;
  readonly name: Buffer;
  readonly fd?: number | undefined;
  readonly type: FileType;
  /** Whether it came with access lists of its directory. */
  readonly inherits: boolean;
}

/** Sets attributes in the only order that keeps them all. */
export class AttributeWriter {
  readonly #prefix: string | undefined;
  readonly #place: string;

  /** @param place the layer's directory, for messages */
  constructor(form: TreeForm, place: string) {
    this.#prefix = form.type === 'delta' ? form.prefix : undefined;
    this.#place = place;
  }

  /**
   * Only what differs is set, since each change of an inode costs more than a look at it.
   * @returns what it is in the end @throws Unimplemented when the file system cannot keep an extended attribute
   */
  set(target: Target, attributes: NewAttributes): FileStatus {
    const { directory, name, fd } = target;
    const { mtime } = attributes;
    // First: nothing of the rest changes the times.
    check(
      fd === undefined ? lutimesat(directory, name, mtime, mtime) : futimes(fd, mtime, mtime),
      'set the times of',
      name,
    );
    const status = statusOf(target);
    return isAsWanted(status, target, attributes) ? status : this.#setRest(target, attributes, status);
  }

  #setRest(target: Target, attributes: NewAttributes, status: FileStatus): FileStatus {
    const { directory, name, fd, type } = target;
    const { uid, gid, mode, xattrs } = attributes;
    if (!isOwned(status, attributes)) {
      check(
        fd === undefined ? lchownat(directory, name, uid, gid) : fchown(fd, uid, gid),
        'change the owner of',
        name,
      );
    }
    if (target.inherits && type !== 'symlink') for (const acl of inheritedAcls) removeXattr(at(target), acl);
    for (const [xattr, value] of xattrs) this.#setXattr(target, xattr, value);
    // After chown, which clears the set-user-ID bits; and no link has a mode.
    if (type !== 'symlink') {
      check(
        fd === undefined ? fchmodat(directory, name, mode) : fchmod(fd, mode),
        'change the mode of',
        name,
      );
    }
    return statusOf(target);
  }

  /** For a directory that was there: what it has and an entry does not. */
  removeOtherXattrs(fd: number, xattrs: ReadonlyMap<string, Buffer>): void {
    for (const name of readXattrs(fd).keys()) {
      if (name === hostLabel || this.#belongsToUnion(name)) continue;
      if (!xattrs.has(this.#unescaped(name)))
        check(removeXattr(fd, name), `remove the extended attribute ${name}`);
    }
  }

  #setXattr(target: Target, name: string, value: Buffer): void {
    if (name === hostLabel || !isKnown(name)) return;
    const { type } = target;
    const result = setXattr(at(target), this.#escaped(name), value);
    if (result >= 0) return;
    // Only files and directories can have them (xattr(7)); an archive that has them anyway comes from elsewhere.
    if (result === -EPERM && name.startsWith('user.') && type !== 'file' && type !== 'directory') return;
    const what = `the extended attribute ${JSON.stringify(name)} of ${shown(target.name)}`;
    if (result === -EOPNOTSUPP) {
      throw new Unimplemented(
        `the file system of ${this.#place} cannot keep ${what}; use ext4, xfs or btrfs`,
      );
    }
    if (result === -22 || result === -34) {
      throw new InvalidArgument(`the kernel does not accept ${what} in the archive; make the archive anew`);
    }
    check(result, `set ${what}`);
  }

  /**
   * An attribute of the user's that looks like one of the union's gets `overlay.` after the prefix, so that no
   * archive can hide or redirect anything (kernel, overlayfs.rst, "Nesting overlayfs mounts").
   */
  #escaped(name: string): string {
    if (this.#prefix === undefined || !name.startsWith(this.#prefix)) return name;
    return `${this.#prefix}overlay.${name.slice(this.#prefix.length)}`;
  }

  #unescaped(name: string): string {
    const escaped = this.#prefix === undefined ? undefined : `${this.#prefix}overlay.`;
    return escaped !== undefined && name.startsWith(escaped)
      ? `${this.#prefix}${name.slice(escaped.length)}`
      : name;
  }

  #belongsToUnion(name: string): boolean {
    return this.#prefix !== undefined && name.startsWith(this.#prefix) && this.#unescaped(name) === name;
  }
}

/**
 * Whether it is in one of the namespaces of xattr(7). Others come from other systems (`com.apple.provenance`) or
 * belong to a file system (`system.nfs4_acl`): they are left out, as containerd leaves out what a disk cannot keep.
 */
function isKnown(name: string): boolean {
  return (
    inheritedAcls.includes(name) || ['user.', 'trusted.', 'security.'].some(known => name.startsWith(known))
  );
}

function isAsWanted(status: FileStatus, { type, inherits }: Target, wanted: NewAttributes): boolean {
  if (!isOwned(status, wanted) || wanted.xattrs.size > 0) return false;
  return type === 'symlink' || (status.mode === wanted.mode && !inherits);
}

function isOwned({ uid, gid }: FileStatus, wanted: NewAttributes): boolean {
  return uid === wanted.uid && gid === wanted.gid;
}

function statusOf({ directory, name, fd }: Target): FileStatus {
  return mustBe(fd === undefined ? lstatat(directory, name) : fstat(fd), name);
}

function at({ directory, name, fd }: Target): XattrTarget {
  return fd ?? [directory, name];
}
