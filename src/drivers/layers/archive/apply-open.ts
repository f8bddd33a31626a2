import { closeSync } from 'node:fs';
import { type FileTime, futimes } from '../../../host/linux/file-calls.ts';
import { fstat, mustBe } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { getXattr } from '../../../host/linux/xattr-calls.ts';
import { unchanged } from './apply-attributes.ts';
import { bytesOfPath } from './apply-names.ts';

/** Directories that stay open, each with at most two descriptors. */
const maxOpen = 64;

/** An open directory of the merged tree. */
export interface Directory {
  /** Where it really is: no component is a link. */
  readonly path: string;
  /** In the layer itself; -1 while it exists only beneath. */
  own: number;
  /** What is seen of it beneath; -1 when nothing is, or something hides it. */
  below: number;
  /** What its time of change is to be in the end. */
  mtime: FileTime;
  /** Whether an entry was made or removed in it, or it was changed itself. */
  changed: boolean;
  /** Whether what is made in it gets access lists from it. */
  inherits: boolean;
  /** How many hold it open. */
  pins: number;
}

/**
 * The directories that are open. Times of change are set anew when one is closed, so that memory does not grow with
 * their number.
 */
export class OpenDirectories {
  readonly top: Directory;
  readonly #onClose: (directory: Directory) => void;
  /** By path, the one that was used last at the end. */
  readonly #open = new Map<string, Directory>();
  #latest: Directory;

  /** @param onClose is told each directory that was changed, just before it is closed */
  constructor(top: Directory, onClose: (directory: Directory) => void) {
    this.top = top;
    this.#latest = top;
    this.#onClose = onClose;
  }

  get(path: string): Directory | undefined {
    // Most entries stand in the directory of the entry before.
    if (this.#latest.path === path) return this.#latest;
    const known = this.#open.get(path);
    if (known === undefined) return undefined;
    this.#open.delete(path);
    this.#open.set(path, known);
    this.#latest = known;
    return known;
  }

  add(directory: Directory): Directory {
    this.#open.set(directory.path, directory);
    this.#latest = directory;
    for (const oldest of this.#open.values()) {
      if (this.#open.size <= maxOpen) break;
      if (oldest.pins === 0 && oldest !== directory) this.close(oldest);
    }
    return directory;
  }

  close(directory: Directory): void {
    this.#open.delete(directory.path);
    if (this.#latest === directory) this.#latest = this.top;
    if (directory.changed) this.settle(directory);
    if (directory.pins === 0) closeBoth(directory);
  }

  closeAll(): void {
    for (const directory of [...this.#open.values()]) this.close(directory);
  }

  /** Forgets what is known below a path, and of it: it is about to be something else. */
  drop(path: string, itself = true): void {
    const prefix = path === '' ? '' : `${path}/`;
    for (const directory of [...this.#open.values()]) {
      const { path: known } = directory;
      if (known === path ? itself : known.startsWith(prefix)) this.close(directory);
    }
  }

  /** Forgets what is known at and below a path and exists only beneath: something is made there in the layer. */
  dropBeneath(path: string): void {
    for (const directory of this.#open.values()) {
      const { own, path: known } = directory;
      if (own < 0 && (known === path || known.startsWith(`${path}/`))) this.close(directory);
    }
  }

  /** Keeps a directory open for the time of `use`, whatever else is opened or dropped. */
  holding<T>(directory: Directory, use: () => T): T {
    directory.pins += 1;
    try {
      return use();
    } finally {
      directory.pins -= 1;
      const isForgotten = directory !== this.top && this.#open.get(directory.path) !== directory;
      if (directory.pins === 0 && isForgotten) closeBoth(directory);
    }
  }

  settle(directory: Directory): void {
    const { own, mtime, path } = directory;
    check(futimes(own, unchanged, mtime), 'set the times of', bytesOfPath(path));
    this.#onClose(directory);
    directory.changed = false;
  }

  /** After a failure: nothing is set any more. */
  abandon(): void {
    for (const directory of this.#open.values()) closeBoth(directory);
    this.#open.clear();
    this.#latest = this.top;
  }
}

/** @param own in the layer, or -1 @param below of the same path beneath, or -1 */
export function describe(path: string, own: number, below: number): Directory {
  const fd = own < 0 ? below : own;
  const { mtime } = mustBe(fstat(fd), bytesOfPath(path));
  return { path, own, below, mtime, changed: false, inherits: hasDefaultAcl(fd), pins: 0 };
}

export function hasDefaultAcl(fd: number): boolean {
  return typeof getXattr(fd, 'system.posix_acl_default') !== 'number';
}

function closeBoth({ own, below }: Directory): void {
  for (const fd of [own, below]) if (fd >= 0) closeSync(fd);
}
