/** The only recursive delete: synchronous calls, for worker threads ({@link removeTree} of trees.ts starts one). */
import { closeSync, constants, readlinkSync } from 'node:fs';
import { FailedPrecondition, NotFound } from '../../errors/errors.ts';
import { fromErrno, fromNodeError } from '../../errors/from-errno.ts';
import { type DirectoryEntry, nextEntries, rewind } from './directory-entries.ts';
import { openat, rmdirat, unlinkat } from './file-calls.ts';
import { lstatat } from './file-status.ts';
import { isWithin, parseMountinfo, readMountinfo } from './mountinfo.ts';
import { shown } from './native.ts';
import { descriptorPath } from './safe-path.ts';
import { FS_APPEND_FL, FS_IMMUTABLE_FL, inodeFlags, setInodeFlags } from './system-calls.ts';
import { bytesOf, TreeWalker } from './tree-walker.ts';

/** How many directories may turn out to be filled again by somebody else. */
const maxRefilled = 10;
/** How often something may turn up in a directory that was read to its end. */
const maxReadings = 100;
const [EPERM, ENOENT, EEXIST, ENOTEMPTY] = [1, 2, 17, 39];

/**
 * Deletes `name` in an open directory with all that is below it; a missing one is fine. Links are deleted, not
 * followed; immutable and append-only files too. Memory does not grow with the width of a directory.
 * @param throwIfAborted is asked often
 * @throws FailedPrecondition, before anything is deleted, when a mount stands in the tree; and when somebody
 * keeps writing to it; Aborted when a directory is moved meanwhile
 */
export function removeTreeNow(parent: number, name: string, throwIfAborted: () => void): void {
  const path = `${readlinkSync(descriptorPath(parent))}/${name}`;
  const there = lstatat(parent, Buffer.from(name));
  if (there === -ENOENT) return;
  if (typeof there === 'number') throw fromErrno(-there, `remove the tree ${path}`);
  refuseMountsBelow(path);
  const remover = new TreeRemover(parent, path, throwIfAborted);
  if (there.type === 'directory') remover.removeDirectory(Buffer.from(name).toString('latin1'));
  else remover.removeFile(Buffer.from(name).toString('latin1'));
}

/** @throws FailedPrecondition when something is mounted on a path, or below it */
export function refuseMountsBelow(path: string): void {
  const mounted = parseMountinfo(readMountinfo('self')).find(entry => isWithin(entry.mountPoint, path));
  if (mounted === undefined) return;
  throw new FailedPrecondition(`cannot remove ${path}: ${mounted.mountPoint} is mounted; unmount it first`);
}

/** One directory on the way down. */
interface Frame {
  readonly name: string;
  /** Those of its directories that were seen and are still to be removed. */
  readonly children: string[];
  /** Whether anything was in it since it was read from its beginning. */
  found: boolean;
  /** How often it was read to its end. */
  readings: number;
}

class TreeRemover {
  readonly #walker: TreeWalker;
  readonly #path: string;
  readonly #throwIfAborted: () => void;
  #refilled = 0;

  constructor(parent: number, path: string, throwIfAborted: () => void) {
    this.#walker = new TreeWalker(parent);
    this.#path = path;
    this.#throwIfAborted = throwIfAborted;
  }

  removeFile(name: string): void {
    this.#check(this.#remove(name, unlinkat), name);
  }

  removeDirectory(name: string): void {
    const frames: Frame[] = [];
    try {
      this.#enter(frames, name);
      for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
        const child = frame.children.pop();
        if (child !== undefined) this.#enter(frames, child);
        else if (!this.#removeFiles(frame)) {
          frames.pop();
          if (!this.#removeEmptied(frame.name)) this.#enter(frames, frame.name);
        }
      }
    } catch (error) {
      throw fromNodeError(error, `remove the tree ${this.#path}`);
    } finally {
      this.#walker.close();
    }
  }

  #enter(frames: Frame[], name: string): void {
    try {
      this.#walker.enter(name);
      frames.push({ name, children: [], found: false, readings: 0 });
    } catch (error) {
      if (!(error instanceof NotFound)) throw error;
    }
  }

  /**
   * Reads on in the directory where the walker stands, and deletes files until it has met directories.
   * @returns false when a whole reading has found nothing: a file system may pass over entries while others go
   */
  #removeFiles(frame: Frame): boolean {
    for (;;) {
      this.#throwIfAborted();
      const entries = nextEntries(this.#walker.fd);
      if (entries === undefined) {
        if (!frame.found) return false;
        this.#readAgain(frame);
      } else {
        this.#removeThese(entries, frame);
        if (frame.children.length > 0) return true;
      }
    }
  }

  #readAgain(frame: Frame): void {
    frame.readings += 1;
    if (frame.readings > maxReadings) throw this.#keepsBeingFilled();
    frame.found = false;
    rewind(this.#walker.fd);
  }

  #removeThese(entries: readonly DirectoryEntry[], frame: Frame): void {
    if (entries.length > 0) frame.found = true;
    for (const { name, directory } of entries) {
      if (directory) frame.children.push(name);
      else this.removeFile(name);
    }
  }

  /** Steps back from an empty directory and removes it. @returns false when it is not empty any more */
  #removeEmptied(name: string): boolean {
    this.#walker.leave();
    const result = this.#remove(name, rmdirat);
    if (result !== -ENOTEMPTY && result !== -EEXIST) {
      this.#check(result, name);
      return true;
    }
    this.#refilled += 1;
    if (this.#refilled <= maxRefilled) return false;
    throw this.#keepsBeingFilled();
  }

  #keepsBeingFilled(): FailedPrecondition {
    return new FailedPrecondition(`somebody keeps writing to ${this.#path}; stop that first`);
  }

  #remove(name: string, call: (directory: number, name: Buffer) => number): number {
    const [directory, bytes] = [this.#walker.fd, bytesOf(name)];
    const result = call(directory, bytes);
    if (result !== -EPERM) return result;
    lift(directory, bytes);
    return call(directory, bytes);
  }

  #check(result: number, name: string): void {
    if (result < 0 && result !== -ENOENT)
      throw fromErrno(-result, `remove ${shown(bytesOf(name))} in the tree ${this.#path}`);
  }
}

/** Clears what forbids to delete: on the directory and on the entry itself (ioctl_iflags(2)). */
function lift(directory: number, name: Buffer): void {
  clearFlags(directory);
  const entry = lstatat(directory, name);
  // To open a device would act on it; and only files and directories have flags.
  if (typeof entry === 'number' || (entry.type !== 'file' && entry.type !== 'directory')) return;
  const fd = openat(directory, name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if (fd < 0) return;
  try {
    clearFlags(fd);
  } finally {
    closeSync(fd);
  }
}

function clearFlags(fd: number): void {
  const { value, errno } = inodeFlags(fd);
  const cleared = value & ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
  if (errno === 0 && cleared !== value) setInodeFlags(fd, cleared);
}
