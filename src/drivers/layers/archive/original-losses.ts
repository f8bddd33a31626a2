import { closeSync, constants, openSync } from 'node:fs';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { directoryFlags, openat } from '../../../host/linux/file-calls.ts';
import type { FileStatus } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { TreeWalker, walkTree } from '../../../host/linux/tree-walker.ts';
import type { Made } from './apply-made.ts';
import { bytesOfPath, join } from './apply-names.ts';
import { DataCopier } from './copy-data.ts';

/** A name in an open directory. */
interface Doomed {
  readonly directory: number;
  readonly name: Buffer;
  /** Within the layer, without links. */
  readonly path: string;
  readonly status: FileStatus;
}

interface Loss {
  readonly path: string;
  /** The number of the copy that holds what the file held. */
  readonly copy: number;
}

/**
 * Copies the contents of files that an archive made and then replaced. Each inode is copied once, holes are kept, and
 * the data is shared where the file system can, so that no archive takes more room by this than by what it unpacks.
 *
 * Memory: a number for each inode that lost a name and has others.
 */
export class LostContents {
  readonly #pathOf: (copy: number) => string;
  readonly #checkpoint: () => void;
  readonly #copier = new DataCopier();
  readonly #copies = new Map<bigint, number>();
  #count = 0;

  /** @param pathOf where a copy goes, an absolute path @param checkpoint throws when the work is to stop */
  constructor(pathOf: (copy: number) => string, checkpoint: () => void) {
    this.#pathOf = pathOf;
    this.#checkpoint = checkpoint;
  }

  /** Copies what is about to be removed, as far as the archive made it. */
  *keep(doomed: Doomed, made: Made): Generator<Loss, void, void> {
    const { path, status } = doomed;
    if (made.has(path)) {
      if (status.type === 'file') yield* this.#keepFile(doomed);
      else if (status.type === 'directory') yield* this.#keepBelow(doomed, made);
    } else if (status.type === 'file' && status.nlink === 1) this.#copies.delete(status.ino);
  }

  *#keepBelow({ directory, name, path }: Doomed, made: Made): Generator<Loss, void, void> {
    const top = check(openat(directory, name, directoryFlags), 'open', name);
    const walker = new TreeWalker(top);
    try {
      for (const { name: child, event, status } of walkTree(walker)) {
        const childPath = join(path, walker.pathOf(child));
        if (event !== 'entry' || status.type !== 'file' || !made.has(childPath)) continue;
        yield* this.#keepFile({
          directory: walker.fd,
          name: bytesOfPath(child),
          path: childPath,
          status,
        });
      }
    } finally {
      walker.close();
      closeSync(top);
    }
  }

  *#keepFile(doomed: Doomed): Generator<Loss, void, void> {
    const { path, status } = doomed;
    if (status.size === 0) return;
    const copy = this.#copies.get(status.ino) ?? this.#copy(doomed);
    // With its last name the number of the inode is free for another file; directories are removed in the end only.
    if (status.nlink > 1) this.#copies.set(status.ino, copy);
    else this.#copies.delete(status.ino);
    yield { path, copy };
  }

  #copy({ directory, name, status }: Doomed): number {
    const number = this.#count++;
    const from = check(openat(directory, name, constants.O_RDONLY | constants.O_NOFOLLOW), 'open', name);
    try {
      const into = this.#make(number);
      try {
        this.#copier.copy(from, into, status.size, this.#checkpoint);
      } finally {
        closeSync(into);
      }
    } finally {
      closeSync(from);
    }
    return number;
  }

  #make(number: number): number {
    try {
      return openSync(this.#pathOf(number), 'wx', 0o600);
    } catch (error) {
      throw fromNodeError(error, `make ${this.#pathOf(number)}`);
    }
  }
}
