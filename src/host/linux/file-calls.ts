/**
 * Synchronous calls on names in open directories. Names are bytes, one component or a path of several; only
 * {@link openat2} promises anything about the components before the last. Results: see native.ts.
 */
import { constants, readdirSync } from 'node:fs';
import { check, libc, PathArgument, rawCall } from './native.ts';
import { descriptorPath, O_CLOEXEC } from './safe-path.ts';

const cOpenat = libc.func('int openat(int directory, void *name, int flags, uint mode)');
const cSyscall = libc.func('syscall', 'long', ['long', 'int', 'void *', 'void *', 'size_t']);
const cMkdirat = libc.func('int mkdirat(int directory, void *name, uint mode)');
const cMknodat = libc.func('int mknodat(int directory, void *name, uint mode, uint64_t device)');
const cSymlinkat = libc.func('int symlinkat(void *target, int directory, void *name)');
const cLinkat = libc.func('int linkat(int from, void *fromName, int to, void *toName, int flags)');
const cUnlinkat = libc.func('int unlinkat(int directory, void *name, int flags)');
const cRenameat2 = libc.func('int renameat2(int from, void *fromName, int to, void *toName, uint flags)');
const cReadlinkat = libc.func('long readlinkat(int directory, void *name, void *into, size_t size)');
const cFchownat = libc.func('int fchownat(int directory, void *name, uint uid, uint gid, int flags)');
const cFchown = libc.func('int fchown(int fd, uint uid, uint gid)');
const cFchmodat = libc.func('int fchmodat(int directory, void *name, uint mode, int flags)');
const cFchmod = libc.func('int fchmod(int fd, uint mode)');
const cUtimensat = libc.func('int utimensat(int directory, void *name, void *times, int flags)');
const cFutimens = libc.func('int futimens(int fd, void *times)');
const cUnshare = libc.func('int unshare(int flags)');
const cUmask = libc.func('uint umask(uint mask)');

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;

const [path, otherPath] = [new PathArgument(), new PathArgument()];
const text = Buffer.alloc(4097);
const how = Buffer.alloc(24);
const times = Buffer.alloc(32);

/** Flags that open a directory and nothing else: no link is followed, no child inherits it. */
export const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC;
/** Flags that make a file that is not there yet. */
export const newFileFlags =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | O_CLOEXEC;

/** openat(2). @returns a descriptor */
export function openat(directory: number, name: Buffer, flags: number, mode = 0): number {
  return rawCall(cOpenat, directory, path.of(name), flags | O_CLOEXEC, mode);
}

/** openat2(2). @param resolve such as `strictlyBelow` of system-calls.ts @returns a descriptor */
export function openat2(directory: number, name: Buffer, flags: number, resolve: number): number {
  const [SYS_openat2, EAGAIN] = [437, 11];
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(resolve), 16);
  // EAGAIN: something was renamed while the kernel checked that the path stays below (openat2(2)).
  for (let attempt = 0; ; attempt += 1) {
    const result = rawCall(cSyscall, SYS_openat2, directory, path.of(name), how, how.length);
    if (result !== -EAGAIN || attempt === 100) return result;
  }
}

/**
 * Gives this thread a umask of its own, 0, so that it makes files with the mode it says (unshare(2), CLONE_FS: the
 * umask belongs to a thread that has unshared it, and else to the process).
 */
export function dropUmask(): void {
  const CLONE_FS = 0x200;
  check(rawCall(cUnshare, CLONE_FS), 'give a thread a umask of its own');
  cUmask(0);
}

/** mkdirat(2). @param mode less the umask */
export function mkdirat(directory: number, name: Buffer, mode: number): number {
  return rawCall(cMkdirat, directory, path.of(name), mode);
}

/** mknodat(2). @param mode with the type, such as S_IFCHR */
export function mknodat(
  directory: number,
  name: Buffer,
  mode: number,
  device: { readonly major: number; readonly minor: number },
): number {
  return rawCall(cMknodat, directory, path.of(name), mode, deviceNumber(device));
}

/** The number of a device as glibc has it (makedev(3)). */
function deviceNumber({ major, minor }: { readonly major: number; readonly minor: number }): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return ((high & ~0xfffn) << 32n) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | (low & 0xffn);
}

/** symlinkat(2). */
export function symlinkat(target: Buffer, directory: number, name: Buffer): number {
  return rawCall(cSymlinkat, otherPath.of(target), directory, path.of(name));
}

/** linkat(2): another name for a file; of a symbolic link for the link itself. */
export function linkat(from: number, fromName: Buffer, to: number, toName: Buffer): number {
  return rawCall(cLinkat, from, path.of(fromName), to, otherPath.of(toName), 0);
}

/** A name for an open file, which may have none yet (open(2), O_TMPFILE). */
export function linkOpenFile(fd: number, to: number, toName: Buffer): number {
  const [AT_FDCWD, AT_SYMLINK_FOLLOW] = [-100, 0x400];
  const from = Buffer.from(descriptorPath(fd));
  return rawCall(cLinkat, AT_FDCWD, path.of(from), to, otherPath.of(toName), AT_SYMLINK_FOLLOW);
}

/** unlinkat(2): not for directories. */
export function unlinkat(directory: number, name: Buffer): number {
  return rawCall(cUnlinkat, directory, path.of(name), 0);
}

/** rmdir(2): for empty directories. */
export function rmdirat(directory: number, name: Buffer): number {
  return rawCall(cUnlinkat, directory, path.of(name), AT_REMOVEDIR);
}

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

/** renameat2(2). */
export function renameat2(from: number, fromName: Buffer, to: number, toName: Buffer, flags = 0): number {
  return rawCall(cRenameat2, from, path.of(fromName), to, otherPath.of(toName), flags);
}

/** readlinkat(2). @returns what the link says, in a Buffer of its own, or the negated errno */
export function readlinkat(directory: number, name: Buffer): Buffer | number {
  const length = rawCall(cReadlinkat, directory, path.of(name), text, text.length);
  return length < 0 ? length : Buffer.from(text.subarray(0, length));
}

/** fchownat(2), of a symbolic link itself. It clears set-user-ID bits and file capabilities (chown(2)). */
export function lchownat(directory: number, name: Buffer, uid: number, gid: number): number {
  return rawCall(cFchownat, directory, path.of(name), uid, gid, AT_SYMLINK_NOFOLLOW);
}

/** fchown(2). */
export function fchown(fd: number, uid: number, gid: number): number {
  return rawCall(cFchown, fd, uid, gid);
}

/** fchmodat(2); a symbolic link is not followed, but refused with EOPNOTSUPP. */
export function fchmodat(directory: number, name: Buffer, mode: number): number {
  return rawCall(cFchmodat, directory, path.of(name), mode, AT_SYMLINK_NOFOLLOW);
}

/** fchmod(2). */
export function fchmod(fd: number, mode: number): number {
  return rawCall(cFchmod, fd, mode);
}

export interface FileTime {
  /** Since 1970; negative before. */
  readonly seconds: number;
  /** 0 to 999 999 999, also before 1970. */
  readonly nanoseconds: number;
}

/** utimensat(2): time of access and of change of content, of a symbolic link itself. */
export function lutimesat(directory: number, name: Buffer, access: FileTime, change: FileTime): number {
  writeTimes(access, change);
  return rawCall(cUtimensat, directory, path.of(name), times, AT_SYMLINK_NOFOLLOW);
}

/** futimens(3). */
export function futimes(fd: number, access: FileTime, change: FileTime): number {
  writeTimes(access, change);
  return rawCall(cFutimens, fd, times);
}

/** Two of struct timespec, whose fields have 64 bits on every architecture that Node runs on. */
function writeTimes(access: FileTime, change: FileTime): void {
  let offset = 0;
  for (const time of [access, change]) {
    times.writeInt32LE(time.seconds | 0, offset);
    times.writeInt32LE(Math.floor(time.seconds / 2 ** 32), offset + 4);
    times.writeInt32LE(time.nanoseconds, offset + 8);
    offset += 16;
  }
}

/** The names in an open directory, without `.` and `..`, as the file system gives them. */
export function readNames(directory: number): Buffer[] {
  return readdirSync(descriptorPath(directory), { encoding: 'buffer' });
}
