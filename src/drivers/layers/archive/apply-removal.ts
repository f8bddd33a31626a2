import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import {
  directoryFlags,
  mkdirat,
  openat,
  renameat2,
  rmdirat,
  unlinkat,
} from '../../../host/linux/file-calls.ts';
import { type FileStatus, lstatat, mustBe } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { removeTreeNow } from '../../../host/linux/remove-tree.ts';
import { bytesOfPath, join } from './apply-names.ts';
import type { Directory, OpenDirectories } from './apply-open.ts';
import type { Records } from './apply-records.ts';

const [ENOTEMPTY, EEXIST] = [39, 17];

/** Is told what is about to be removed, with all that is below it. @param path within the layer, without links */
type BeforeRemoval = (directory: number, name: Buffer, path: string, status: FileStatus) => void;

/**
 * Removes what an archive replaces or hides. A directory that holds something is moved aside, into one directory at
 * the top of the layer that is deleted in the end: in the layer, since nothing else is sure to be on the same file
 * system. After a failure it stays, as the half-made layer does.
 */
export class Removal {
  readonly #directories: OpenDirectories;
  readonly #records: Records;
  readonly #settle: () => void;
  readonly #before: BeforeRemoval;
  readonly #aside = `.varve-removed-${randomBytes(8).toString('hex')}`;
  #fd = -1;
  #count = 0;

  /** @param settle waits until all files that were made have their content */
  constructor(directories: OpenDirectories, records: Records, settle: () => void, before: BeforeRemoval) {
    this.#directories = directories;
    this.#records = records;
    this.#settle = settle;
    this.#before = before;
  }

  /** Whether something in the layer is only there to be deleted. */
  isAside(path: string): boolean {
    return path === this.#aside;
  }

  /** What stands at a name in the layer; it has to be there. */
  remove(parent: Directory, name: string): void {
    // What is still being written would be recorded after it was gone.
    this.#settle();
    const bytes = bytesOfPath(name);
    const path = join(parent.path, name);
    const status = mustBe(lstatat(parent.own, bytes), bytes);
    this.#before(parent.own, bytes, path, status);
    if (status.type === 'directory') this.#removeDirectory(parent, path, bytes);
    else check(unlinkat(parent.own, bytes), 'remove', bytes);
    parent.changed = true;
    this.#records.forget(path);
  }

  #removeDirectory(parent: Directory, path: string, name: Buffer): void {
    this.#directories.drop(path);
    const result = rmdirat(parent.own, name);
    if (result !== -ENOTEMPTY && result !== -EEXIST) check(result, 'remove', name);
    else {
      const aside = Buffer.from(String(this.#count));
      check(renameat2(parent.own, name, this.#open(), aside), 'move aside', name);
      this.#count += 1;
    }
  }

  #open(): number {
    if (this.#fd >= 0) return this.#fd;
    const { top } = this.#directories;
    const name = Buffer.from(this.#aside);
    check(mkdirat(top.own, name, 0o700), 'make', name);
    top.changed = true;
    this.#fd = check(openat(top.own, name, directoryFlags), 'open', name);
    return this.#fd;
  }

  /** Deletes what was moved aside. */
  finish(throwIfAborted: () => void): void {
    if (this.#fd >= 0) removeTreeNow(this.#directories.top.own, this.#aside, throwIfAborted);
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
