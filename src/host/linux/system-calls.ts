/**
 * The few calls of libc that Node lacks. Each returns its value with the errno; `must` turns a failure into a
 * VarveError.
 *
 * errno belongs to the thread: of a synchronous call it is read on the next line, of an asynchronous one inside
 * the callback, for which koffi restores it. Whatever looks up a path may hang on a dead network file system
 * and therefore runs on libuv's pool.
 */
import koffi from 'koffi';
import { fromErrno } from '../../errors/from-errno.ts';
import { limiter } from './limiter.ts';
import { type Libc, libc, maxCallsInFlight } from './native.ts';

export interface Answer {
  readonly value: number;
  /** 0 after a success. */
  readonly errno: number;
}

const oneOfMany = limiter(maxCallsInFlight);

export { libc };

const cMount = libc.func('int mount(void *source, void *target, void *type, ulong flags, void *data)');
const cUmount2 = libc.func('int umount2(void *target, int flags)');
const cOpenat2 = libc.func('syscall', 'long', ['long', 'int', 'void *', 'void *', 'size_t']);
const cStatx = libc.func('int statx(int fd, void *path, int flags, uint mask, void *statx)');
const cStatfs = libc.func('int statfs(void *path, void *statfs)');
const cRenameat2 = libc.func('int renameat2(int from, void *fromName, int to, void *toName, uint flags)');
const cIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);
const cIoctlNumber = libc.func('ioctl', 'int', ['int', 'ulong', 'long']);
const cFsetxattr = libc.func('int fsetxattr(int fd, void *name, void *value, size_t size, int flags)');
const cSyncfs = libc.func('int syncfs(int fd)');
const cFlock = libc.func('int flock(int fd, int operation)');
const cSocket = libc.func('int socket(int domain, int type, int protocol)');
const cSendto = libc.func(
  'long sendto(int fd, void *message, size_t size, int flags, void *address, uint length)',
);
const cGetsockopt = libc.func('int getsockopt(int fd, int level, int option, void *value, void *length)');

/** The value of a call, or its failure thrown. @param action what was done to what, for the message */
export function must(answer: Answer, action: string): number {
  if (answer.errno !== 0) throw fromErrno(answer.errno, action);
  return answer.value;
}

export const MS_RDONLY = 1;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;

/** mount(2), for binds and remounts: no type and no data. */
export function mount(source: string, target: string, flags: number): Promise<Answer> {
  return call(cMount, cString(source), cString(target), null, flags, null);
}

export const MNT_DETACH = 2;

/** umount2(2) with UMOUNT_NOFOLLOW. */
export function unmount(target: string, flags = 0): Promise<Answer> {
  const UMOUNT_NOFOLLOW = 8;
  return call(cUmount2, cString(target), flags | UMOUNT_NOFOLLOW);
}

const SYS_openat2 = 437;
const RESOLVE_NO_XDEV = 0x01;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
export const strictlyBelow = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH;
/** Allows `..`, but no link and no other mount. */
export const sameMount = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;

/** openat2(2). @param path as text, or as bytes where names need not be UTF-8 */
export function openat2(
  directory: number,
  path: string | Buffer,
  flags: number,
  resolve: number,
): Promise<Answer> {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(flags), 0);
  how.writeBigUInt64LE(BigInt(resolve), 16);
  return call(cOpenat2, SYS_openat2, directory, cString(path), how, how.length);
}

export interface FileIdentity {
  /** Unique for each file of a host at one time. */
  readonly key: string;
  readonly directory: boolean;
  /** As in the first field of mountinfo. */
  readonly mountId: number;
  /** Whether a mount stands exactly here (STATX_ATTR_MOUNT_ROOT, since Linux 5.8). */
  readonly mountRoot: boolean;
}

/** statx(2) of an absolute path, without following a link in its last component. */
export async function identify(path: string): Promise<Answer & { readonly file: FileIdentity }> {
  const [AT_FDCWD, AT_SYMLINK_NOFOLLOW] = [-100, 0x100];
  const mask = 0x001 | 0x100 | 0x1000; // STATX_TYPE, STATX_INO, STATX_MNT_ID
  const buffer = Buffer.alloc(256);
  const answer = await call(cStatx, AT_FDCWD, cString(path), AT_SYMLINK_NOFOLLOW, mask, buffer);
  return { ...answer, file: readStatx(buffer) };
}

/** Offsets of struct statx, the same on every architecture. */
function readStatx(buffer: Buffer): FileIdentity {
  const [device, inode] = [
    `${buffer.readUInt32LE(136)}:${buffer.readUInt32LE(140)}`,
    buffer.readBigUInt64LE(32),
  ];
  const STATX_ATTR_MOUNT_ROOT = 0x2000n;
  return {
    key: `${device}:${inode}`,
    directory: (buffer.readUInt16LE(28) & 0o170000) === 0o040000,
    mountId: Number(buffer.readBigUInt64LE(144)),
    mountRoot: (buffer.readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n,
  };
}

/** Whether a path can only be read: its mount or its file system (statfs(2), ST_RDONLY). */
export async function isReadonly(path: string): Promise<boolean> {
  const buffer = Buffer.alloc(120);
  must(await call(cStatfs, cString(path), buffer), `ask for the file system of ${path}`);
  return (buffer.readBigUInt64LE(80) & 1n) !== 0n;
}

/** renameat2(2) with RENAME_NOREPLACE. */
export function renameNew(from: number, fromName: string, to: number, toName: string): Promise<Answer> {
  const RENAME_NOREPLACE = 1;
  return call(cRenameat2, from, cString(fromName), to, cString(toName), RENAME_NOREPLACE);
}

export const FS_IMMUTABLE_FL = 0x10;
export const FS_APPEND_FL = 0x20;

/** ioctl_iflags(2): the attributes that lsattr shows. */
export function inodeFlags(fd: number): Answer {
  const FS_IOC_GETFLAGS = 0x80086601;
  const flags = Buffer.alloc(8);
  const { errno } = callNow(cIoctl, fd, FS_IOC_GETFLAGS, flags);
  return { value: flags.readInt32LE(0), errno };
}

export function setInodeFlags(fd: number, value: number): Answer {
  const FS_IOC_SETFLAGS = 0x40086602;
  const flags = Buffer.alloc(8);
  flags.writeInt32LE(value, 0);
  return callNow(cIoctl, fd, FS_IOC_SETFLAGS, flags);
}

/** ioctl_ficlone(2): the file `target` shares the data of `source`. */
export function cloneFile(target: number, source: number): Answer {
  const FICLONE = 0x40049409;
  return callNow(cIoctlNumber, target, FICLONE, source);
}

/** fsetxattr(2). */
export function setXattr(fd: number, name: string, value: string): Answer {
  return callNow(cFsetxattr, fd, cString(name), Buffer.from(value), Buffer.byteLength(value), 0);
}

/** syncfs(2). */
export function syncfs(fd: number): Promise<Answer> {
  return call(cSyncfs, fd);
}

/** flock(2), exclusive; EAGAIN when another has it. */
export function tryFlock(fd: number): Answer {
  const [LOCK_EX, LOCK_NB] = [2, 4];
  return callNow(cFlock, fd, LOCK_EX | LOCK_NB);
}

/** The process that connected a unix socket (unix(7), SO_PEERCRED); 0 when it is none, or in another pid namespace. */
export function peerOf(fd: number): Answer {
  const [SOL_SOCKET, SO_PEERCRED] = [1, 17];
  const credentials = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeInt32LE(credentials.length, 0);
  const { errno } = callNow(cGetsockopt, fd, SOL_SOCKET, SO_PEERCRED, credentials, length);
  return { value: credentials.readInt32LE(0), errno };
}

/** socket(2): a unix datagram socket that no child inherits. */
export function datagramSocket(): Answer {
  const [AF_UNIX, SOCK_DGRAM, SOCK_CLOEXEC] = [1, 2, 0o2000000];
  return callNow(cSocket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/** sendto(2); it waits while the receiver's queue is full. @param address struct sockaddr_un */
export function sendDatagram(fd: number, message: string, address: Buffer): Promise<Answer> {
  const MSG_NOSIGNAL = 0x4000;
  const bytes = Buffer.from(message);
  return call(cSendto, fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length);
}

/** A synchronous call, for what cannot wait for a disk or a server. */
export function callNow(libcFunction: Libc, ...args: readonly unknown[]): Answer {
  const value: number = libcFunction(...args);
  const errno = value === -1 ? koffi.errno() : 0;
  return { value, errno };
}

/** A call on libuv's pool. */
export function call(libcFunction: Libc, ...args: readonly unknown[]): Promise<Answer> {
  return oneOfMany(
    () =>
      new Promise<Answer>((resolve, reject) => {
        libcFunction.async(...args, (error: unknown, value: number) => {
          const errno = value === -1 ? koffi.errno() : 0;
          if (error) reject(error);
          else resolve({ value, errno });
        });
      }),
  );
}

/** Text with the NUL at its end. The arguments of a call in flight are kept alive by its closure. */
export function cString(text: string | Buffer): Buffer {
  return Buffer.concat([typeof text === 'string' ? Buffer.from(text) : text, Buffer.alloc(1)]);
}
