/**
 * Synchronous calls for extended attributes (xattr(7)) of a name in an open directory, of a symbolic link itself,
 * or of an open file. Attribute names are bytes, here text in which each character is one (latin1). Results: see
 * native.ts.
 */
import { libc, PathArgument, rawCall } from './native.ts';
import { descriptorPath } from './safe-path.ts';

const cLlistxattr = libc.func('long llistxattr(void *path, void *list, size_t size)');
const cLgetxattr = libc.func('long lgetxattr(void *path, void *name, void *value, size_t size)');
const cLsetxattr = libc.func('int lsetxattr(void *path, void *name, void *value, size_t size, int flags)');
const cLremovexattr = libc.func('int lremovexattr(void *path, void *name)');
const cFlistxattr = libc.func('long flistxattr(int fd, void *list, size_t size)');
const cFgetxattr = libc.func('long fgetxattr(int fd, void *name, void *value, size_t size)');
const cFsetxattr = libc.func('int fsetxattr(int fd, void *name, void *value, size_t size, int flags)');
const cFremovexattr = libc.func('int fremovexattr(int fd, void *name)');

/** The most that a list of names, or a value, can take (xattr(7), XATTR_LIST_MAX and XATTR_SIZE_MAX). */
const XATTR_MAX = 65536;

const [path, attribute] = [new PathArgument(), new PathArgument()];
const answer = Buffer.alloc(XATTR_MAX);

/** What has the attributes: an open file, or a name in an open directory; '' is the directory itself. */
export type XattrTarget = number | readonly [directory: number, name: Buffer];

/** The names of all attributes, in the order of the file system, or the negated errno. */
export function listXattrs(target: XattrTarget): readonly string[] | number {
  const length =
    typeof target === 'number'
      ? rawCall(cFlistxattr, target, answer, XATTR_MAX)
      : rawCall(cLlistxattr, pathOf(target), answer, XATTR_MAX);
  if (length < 0) return length;
  return length === 0 ? [] : answer.toString('latin1', 0, length - 1).split('\0');
}

/** The value, in a Buffer of its own, or the negated errno: ENODATA when there is no such attribute. */
export function getXattr(target: XattrTarget, name: string): Buffer | number {
  const length =
    typeof target === 'number'
      ? rawCall(cFgetxattr, target, nameOf(name), answer, XATTR_MAX)
      : rawCall(cLgetxattr, pathOf(target), nameOf(name), answer, XATTR_MAX);
  return length < 0 ? length : Buffer.from(answer.subarray(0, length));
}

export function setXattr(target: XattrTarget, name: string, value: Buffer): number {
  return typeof target === 'number'
    ? rawCall(cFsetxattr, target, nameOf(name), value, value.length, 0)
    : rawCall(cLsetxattr, pathOf(target), nameOf(name), value, value.length, 0);
}

export function removeXattr(target: XattrTarget, name: string): number {
  return typeof target === 'number'
    ? rawCall(cFremovexattr, target, nameOf(name))
    : rawCall(cLremovexattr, pathOf(target), nameOf(name));
}

/** Through the magic link of the descriptor: there is no call for a name in a directory before Linux 6.13. */
function pathOf([directory, name]: readonly [number, Buffer]): Buffer {
  const last = name.length === 0 ? Buffer.from('.') : name;
  return path.of(Buffer.concat([Buffer.from(`${descriptorPath(directory)}/`), last]));
}

function nameOf(name: string): Buffer {
  return attribute.of(Buffer.from(name, 'latin1'));
}
