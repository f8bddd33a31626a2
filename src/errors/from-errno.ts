import { constants } from 'node:os';
import {
  Aborted,
  AlreadyExists,
  DeadlineExceeded,
  Exhausted,
  FailedPrecondition,
  Internal,
  InvalidArgument,
  messageOf,
  NotFound,
  Unavailable,
  Unimplemented,
  VarveError,
} from './errors.ts';

type ErrorClass = new (message: string, options?: ErrorOptions) => VarveError;

/** What an errno means to a caller: the class, what happened, and what a person can do. */
const meanings: Readonly<Record<string, readonly [ErrorClass, string]>> = {
  EACCES: [FailedPrecondition, 'permission denied; run varve as root and check the owner and mode'],
  EADDRINUSE: [AlreadyExists, 'the address is in use; stop what listens there'],
  EAGAIN: [Unavailable, 'it is busy now; try again'],
  EBUSY: [FailedPrecondition, 'it is in use; stop what uses it first'],
  ECONNREFUSED: [Unavailable, 'nobody listens there; start the service'],
  ECONNRESET: [Unavailable, 'the other side closed the connection; try again'],
  EDQUOT: [Exhausted, 'the quota is used up; delete something or raise the quota'],
  EEXIST: [AlreadyExists, 'it exists already; choose another name or remove it'],
  EFBIG: [Exhausted, 'the file is larger than the file system allows; use a smaller one'],
  EHOSTDOWN: [Unavailable, 'the host is down; start it, or check the network'],
  EINTR: [Unavailable, 'it was interrupted; try again'],
  EIO: [Unavailable, 'the disk failed; look at the kernel log'],
  EISDIR: [FailedPrecondition, 'it is a directory; name a file'],
  ELOOP: [FailedPrecondition, 'a symbolic link stands in the path; remove it'],
  EMFILE: [Exhausted, 'too many open files; raise LimitNOFILE'],
  EMLINK: [Exhausted, 'the directory is full; remove something from it'],
  ENAMETOOLONG: [InvalidArgument, 'the name is too long; choose a shorter one'],
  ENFILE: [Exhausted, 'the host has too many open files; raise fs.file-max'],
  ENODEV: [Unavailable, 'there is no such device; check that the disk is attached'],
  ENOENT: [NotFound, 'it does not exist; check the path'],
  ENOMEM: [Exhausted, 'the host is out of memory; stop something, or add memory'],
  ENOSPC: [Exhausted, 'no space is left; delete something or make the file system larger'],
  ENOSYS: [Unimplemented, 'this kernel cannot do it; Linux 5.8 or newer is needed'],
  ENOTCONN: [Unavailable, 'the connection is gone; mount the file system again'],
  ENOTDIR: [FailedPrecondition, 'something that is not a directory stands in the path; move it away'],
  ENOTEMPTY: [FailedPrecondition, 'it is not empty; empty it first'],
  ENOTTY: [Unimplemented, 'this file system cannot do it; use ext4, xfs or btrfs'],
  ENXIO: [Unavailable, 'there is no such device; check that the disk is attached'],
  EOPNOTSUPP: [Unimplemented, 'this file system cannot do it; use ext4, xfs or btrfs'],
  EPERM: [
    FailedPrecondition,
    'it is not permitted; run varve as root, in a container with --cap-add SYS_ADMIN and LINUX_IMMUTABLE, and look for an immutable flag (lsattr)',
  ],
  EROFS: [Unavailable, 'the file system is read-only; look at the kernel log, then mount it read-write'],
  ESRCH: [NotFound, 'there is no such process; it has probably ended'],
  ESTALE: [Unavailable, 'the server forgot the file; mount the file system again'],
  ETIMEDOUT: [DeadlineExceeded, 'it took too long; check the server or the disk'],
  ETXTBSY: [FailedPrecondition, 'a process executes it; stop that process first'],
  EXDEV: [
    FailedPrecondition,
    'a mount point, or a way out of the root, stands in the path; unmount it first',
  ],
};

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** The symbolic name of an errno (errno(3)), such as `ENOSPC`. */
export function errnoName(errno: number): string {
  // EOPNOTSUPP and ENOTSUP, EAGAIN and EWOULDBLOCK share a number on Linux.
  if (errno === constants.errno.EOPNOTSUPP) return 'EOPNOTSUPP';
  if (errno === constants.errno.EAGAIN) return 'EAGAIN';
  return names.get(errno) ?? `errno ${errno}`;
}

/**
 * The failure of a system call, as one of ours.
 * @param action what was done to what, as in `remove /srv/a`
 */
export function fromErrno(errno: number, action: string): VarveError {
  return meaningOf(errnoName(errno), action, undefined);
}

/** The failure of a function of node:fs, net or dns; what is ours already passes through. */
export function fromNodeError(error: unknown, action: string): VarveError {
  if (error instanceof VarveError) return error;
  if (!(error instanceof Error)) return new Internal(`cannot ${action}: ${messageOf(error)}`);
  if (error.name === 'AbortError')
    return new Aborted(`stopped to ${action}: it was cancelled`, { cause: error });
  if (error.name === 'TimeoutError') return meaningOf('ETIMEDOUT', action, error);
  const code = errorCode(error);
  if (code === undefined) return new Internal(`cannot ${action}: ${error.message}`, { cause: error });
  return meaningOf(code === 'ENOTSUP' ? 'EOPNOTSUPP' : code, action, error);
}

/** The symbolic errno of an error of node's own libraries, such as `ENOENT`. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('errno' in error && typeof error.errno === 'number') return errnoName(Math.abs(error.errno));
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function meaningOf(name: string, action: string, cause: Error | undefined): VarveError {
  const options = cause === undefined ? undefined : { cause };
  const meaning = meanings[name];
  if (meaning === undefined) {
    const detail = cause === undefined ? 'this should never happen' : cause.message;
    return new Internal(`cannot ${action}: ${detail} (${name})`, options);
  }
  const [ErrorOf, words] = meaning;
  return new ErrorOf(`cannot ${action}: ${words} (${name})`, options);
}
