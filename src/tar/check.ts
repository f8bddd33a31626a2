import { limits, type TarEntry } from './entry.ts';
import { malformed } from './malformed.ts';

/** What holds for every entry, whether it is read or written. @throws Malformed */
export function checkEntry(entry: TarEntry): void {
  checkPath(entry.path, 'path');
  const endsWithSlash = entry.path.at(-1) === 0x2f;
  const isRoot = entry.path.length === 1 && entry.type === 'directory';
  if (endsWithSlash && !isRoot) throw malformed('its path ends with "/"');
  if (entry.type === 'hardlink' || entry.type === 'symlink') checkPath(entry.linkPath, 'link target');
  checkNumber(entry.size, Number.MAX_SAFE_INTEGER, 'size');
  checkNumber(entry.mode, 0o7777, 'mode');
  checkNumber(entry.uid, limits.id, 'user id');
  checkNumber(entry.gid, limits.id, 'group id');
  // The widths of dev_t in Linux.
  checkNumber(entry.device.major, 2 ** 12 - 1, 'device number');
  checkNumber(entry.device.minor, 2 ** 20 - 1, 'device number');
  if (entry.xattrs.size > 0) checkXattrs(entry.xattrs);
}

function checkPath(path: Buffer, what: string): void {
  if (path.length === 0) throw malformed(`it has no ${what}`);
  if (path.length > limits.path) throw malformed(`its ${what} has more than ${limits.path} bytes`);
  if (path.includes(0)) throw malformed(`its ${what} holds a NUL`);
}

function checkNumber(value: number, largest: number, what: string): void {
  if (value < 0 || value > largest) throw malformed(`its ${what} ${value} is not in 0 to ${largest}`);
}

function checkXattrs(xattrs: TarEntry['xattrs']): void {
  let names = 0;
  let all = 0;
  for (const [name, value] of xattrs) {
    if (name === '' || name.length > limits.xattrName || name.includes('\0')) {
      throw malformed(`it has the extended attribute ${JSON.stringify(name)}, which no file can have`);
    }
    if (value.length > limits.xattrValue) {
      throw malformed(`its extended attribute ${name} has more than ${limits.xattrValue} bytes`);
    }
    names += name.length + 1;
    all += name.length + value.length;
  }
  if (names > limits.xattrNames || all > limits.xattrs)
    throw malformed('it has too many extended attributes');
}
