import { closeSync } from 'node:fs';
import {
  fchmod,
  fchmodat,
  fchown,
  futimes,
  lchownat,
  linkat,
  lutimesat,
  mkdirat,
  mknodat,
  newFileFlags,
  openat,
  symlinkat,
} from '../../../host/linux/file-calls.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { bytesOf, shownPath, TreeWalker, walkTree } from '../../../host/linux/tree-walker.ts';
import { measureTreeNow } from '../../../host/linux/usage.ts';
import { setXattr, type XattrTarget } from '../../../host/linux/xattr-calls.ts';
import type { TaskContext } from '../../../lib/worker-pool.ts';
import { inode } from './compare-changes.ts';
import { targetOf, withFile } from './compare-entries.ts';
import { DataCopier } from './copy-data.ts';
import { Progress } from './progress.ts';
import { readXattrs } from './walk-xattrs.ts';

/** The type of a file in its mode (inode(7)). */
const formats = { fifo: 0o010000, character: 0o020000, block: 0o060000, socket: 0o140000 } as const;

/**
 * Copies a tree with everything in it.
 * @param args `into` an empty directory
 * @throws what the file systems say, also for what disappears meanwhile
 */
export function copyTask(
  { from, into }: { readonly from: number; readonly into: number },
  context: TaskContext,
): void {
  const progress = new Progress(measureTreeNow(from, () => context.throwIfAborted()).apparentBytes, context);
  const [source, target] = [new TreeWalker(from), new TreeWalker(into)];
  const copier = new TreeCopier(source, target, progress);
  try {
    for (const { name, event, status } of walkTree(source)) {
      if (event === 'after') copier.finishDirectory(status);
      else if (name !== '') copier.entry(name, status);
    }
  } finally {
    source.close();
    target.close();
  }
  progress.end();
}

class TreeCopier {
  readonly #source: TreeWalker;
  readonly #target: TreeWalker;
  readonly #progress: Progress;
  readonly #data = new DataCopier();
  /** The first copy of each file with several names. */
  readonly #copies = new Map<string, string>();

  constructor(source: TreeWalker, target: TreeWalker, progress: Progress) {
    this.#source = source;
    this.#target = target;
    this.#progress = progress;
  }

  /** An entry of the directory on which both walkers stand; the target goes into one that it makes. */
  entry(name: string, status: FileStatus): void {
    if (this.#link(name, status)) return;
    const bytes = bytesOf(name);
    if (status.type === 'directory') {
      this.#must(mkdirat(this.#target.fd, bytes, 0o700), 'make', name);
      this.#target.enter(name);
    } else if (status.type === 'file') this.#file(name, status);
    else {
      this.#must(this.#special(bytes, name, status), 'make', name);
      this.#attributes(name, status);
    }
  }

  /** The times come last: each new entry changes those of its directory. */
  finishDirectory(status: FileStatus): void {
    this.#openFile(this.#target.fd, this.#source.fd, status, '');
    if (this.#target.path !== '') this.#target.leave();
  }

  /** @returns whether it is another name of what was copied already */
  #link(name: string, status: FileStatus): boolean {
    if (status.nlink === 1 || status.type === 'directory') return false;
    const first = this.#copies.get(inode(status));
    if (first === undefined) {
      this.#copies.set(inode(status), this.#target.pathOf(name));
      return false;
    }
    // No component of our own copy is a link.
    const link = linkat(this.#target.top, bytesOf(first), this.#target.fd, bytesOf(name));
    this.#must(link, 'link', name);
    return true;
  }

  #file(name: string, status: FileStatus): void {
    withFile({ walker: this.#source, name }, from => {
      const into = this.#must(openat(this.#target.fd, bytesOf(name), newFileFlags, 0o600), 'make', name);
      try {
        this.#data.copy(from, into, status.size, bytes => this.#progress.add(bytes));
        this.#openFile(into, from, status, name);
      } finally {
        closeSync(into);
      }
    });
  }

  #special(bytes: Buffer, name: string, { type, device }: FileStatus): number {
    if (type === 'symlink') {
      return symlinkat(targetOf({ walker: this.#source, name }), this.#target.fd, bytes);
    }
    const format = formats[type as keyof typeof formats];
    return mknodat(this.#target.fd, bytes, format | 0o600, device);
  }

  /** chown(2) clears set-user-ID bits and capabilities: it comes first. */
  #attributes(name: string, { type, uid, gid, mode, accessTime, mtime }: FileStatus): void {
    const [fd, bytes] = [this.#target.fd, bytesOf(name)];
    this.#must(lchownat(fd, bytes, uid, gid), 'give away', name);
    this.#xattrs([this.#source.fd, bytes], [fd, bytes], name);
    if (type !== 'symlink') this.#must(fchmodat(fd, bytes, mode), 'set the mode of', name);
    this.#must(lutimesat(fd, bytes, accessTime, mtime), 'set the times of', name);
  }

  #openFile(
    into: number,
    from: number,
    { uid, gid, mode, accessTime, mtime }: FileStatus,
    name: string,
  ): void {
    this.#must(fchown(into, uid, gid), 'give away', name);
    this.#xattrs(from, into, name);
    this.#must(fchmod(into, mode), 'set the mode of', name);
    this.#must(futimes(into, accessTime, mtime), 'set the times of', name);
  }

  #xattrs(from: XattrTarget, into: XattrTarget, name: string): void {
    for (const [key, value] of readXattrs(from)) {
      this.#must(setXattr(into, key, value), `set the extended attribute ${key} of`, name);
    }
  }

  #must(result: number, action: string, name: string): number {
    if (result >= 0) return result;
    return check(result, `${action} ${shownPath(this.#target.pathOf(name))} in the copy`);
  }
}
