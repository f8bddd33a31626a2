import { closeSync } from 'node:fs';
import { Aborted } from '../../errors/errors.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { directoryFlags, openat2, readNames } from './file-calls.ts';
import { type FileStatus, fstat, lstatat } from './file-status.ts';
import { check } from './native.ts';
import { descriptorPath } from './safe-path.ts';
import { sameMount, strictlyBelow } from './system-calls.ts';

/** Directories that stay open while the walk is below them. */
const openAtOnce = 64;
const ENOENT = 2;
const parent = Buffer.from('..');

interface Frame {
  /** -1 while it is closed. */
  fd: number;
  /** Of a closed directory, to know it again. */
  identity: string;
}

/**
 * Stands on one directory of a tree, and steps into a child or back. The tree may be of any depth: only the nearest
 * directories stay open. A step never follows a link or crosses a mount.
 *
 * Names and paths are text in which each character is one byte (latin1): so they compare as bytes, and serve as keys.
 */
export class TreeWalker {
  readonly #frames: Frame[];
  readonly #names: string[] = [];
  /** One for each frame. Made by concatenation, which costs nothing in V8 before somebody reads the text. */
  readonly #paths: string[] = [''];

  /** @param top an open directory; it stays the caller's */
  constructor(top: number) {
    this.#frames = [{ fd: top, identity: '' }];
  }

  get top(): number {
    return this.#frames[0]?.fd ?? -1;
  }

  get fd(): number {
    return this.#frames.at(-1)?.fd ?? -1;
  }

  /** Relative to the top, which is empty. */
  get path(): string {
    return this.#paths.at(-1) ?? '';
  }

  /** The path of an entry of this directory. */
  pathOf(name: string): string {
    return this.#names.length === 0 ? name : `${this.path}/${name}`;
  }

  /** Sorted as bytes. */
  names(): string[] {
    try {
      return readNames(this.fd)
        .map(name => name.toString('latin1'))
        .sort();
    } catch (error) {
      throw fromNodeError(error, `read the directory ${shownPath(this.path)}`);
    }
  }

  /** @returns undefined when there is no such entry @throws what `fromErrno` gives */
  find(name: string): FileStatus | undefined {
    const found = lstatat(this.fd, bytesOf(name));
    if (found === -ENOENT) return undefined;
    return typeof found === 'number' ? fail(found, this.pathOf(name)) : found;
  }

  /** @throws NotFound when it is gone */
  status(name: string): FileStatus {
    const found = lstatat(this.fd, bytesOf(name));
    return typeof found === 'number' ? fail(found, this.pathOf(name)) : found;
  }

  /** Of the directory on which it stands. */
  here(): FileStatus {
    const found = fstat(this.fd);
    return typeof found === 'number' ? fail(found, this.path) : found;
  }

  enter(name: string): void {
    const fd = openat2(this.fd, bytesOf(name), directoryFlags, strictlyBelow);
    if (fd < 0) check(fd, `open the directory ${shownPath(this.pathOf(name))}`);
    this.#frames.push({ fd, identity: '' });
    this.#paths.push(this.pathOf(name));
    this.#names.push(name);
    this.#closeAt(this.#frames.length - 1 - openAtOnce);
  }

  /** From the top there is no way. @throws Aborted when a directory was moved out of the tree meanwhile */
  leave(): void {
    const [left, here] = [this.#frames.at(-1), this.#frames.at(-2)];
    if (left === undefined || here === undefined) return;
    this.#frames.pop();
    try {
      if (here.fd === -1) this.#reopen(here, left.fd);
    } finally {
      closeSync(left.fd);
      this.#names.pop();
      this.#paths.pop();
    }
  }

  /** Goes to a directory by the shortest way. */
  goTo(path: string): void {
    if (path === this.path) return;
    const names = path === '' ? [] : path.split('/');
    const common = names.findIndex((name, depth) => name !== this.#names[depth]);
    while (this.#names.length > (common === -1 ? names.length : common)) this.leave();
    for (const name of names.slice(this.#names.length)) this.enter(name);
  }

  close(): void {
    for (const { fd } of this.#frames.splice(1)) if (fd !== -1) closeSync(fd);
    this.#names.length = 0;
    this.#paths.length = 1;
  }

  #closeAt(depth: number): void {
    const frame = this.#frames[depth];
    if (frame === undefined || depth <= 0 || frame.fd === -1) return;
    frame.identity = identityOf(frame.fd);
    closeSync(frame.fd);
    frame.fd = -1;
  }

  #reopen(frame: Frame, from: number): void {
    frame.fd = check(openat2(from, parent, directoryFlags, sameMount), 'open the directory above');
    if (identityOf(frame.fd) === frame.identity) return;
    throw new Aborted('a directory was moved while its tree was walked; try again');
  }
}

function identityOf(fd: number): string {
  const status = fstat(fd);
  return typeof status === 'number' ? fail(status, descriptorPath(fd)) : `${status.dev}:${status.ino}`;
}

function fail(negatedErrno: number, path: string): never {
  check(negatedErrno, `look at ${shownPath(path)}`);
  throw new Aborted(`cannot look at ${shownPath(path)}; try again`);
}

export function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** A path for a message. */
export function shownPath(path: string): string {
  return JSON.stringify(`/${bytesOf(path).toString()}`);
}

export interface WalkEntry {
  /** Within the directory on which the walker stands; empty for the top. */
  readonly name: string;
  /** `after` follows a directory, when all that is below it is done. */
  readonly event: 'entry' | 'after';
  readonly status: FileStatus;
}

/**
 * Every entry of a tree, its top first, a directory before what is below it, names sorted. For `after` the walker
 * stands on that directory itself.
 * @param passOver decides, for something that cannot be read, whether the walk goes on without it
 * @throws what the file system says
 */
export function* walkTree(
  walker: TreeWalker,
  passOver: (error: unknown, path: string) => boolean = () => false,
): Generator<WalkEntry> {
  const attempt = <T>(path: string, act: () => T): T | undefined => {
    try {
      return act();
    } catch (error) {
      if (passOver(error, path)) return undefined;
      throw error;
    }
  };
  const names = () => attempt(walker.path, () => walker.names().reverse()) ?? [];
  const top = walker.here();
  yield { name: '', event: 'entry', status: top };
  const left = [{ names: names(), status: top }];
  for (let here = left.at(-1); here !== undefined; here = left.at(-1)) {
    const name = here.names.pop();
    if (name === undefined) {
      yield { name: '', event: 'after', status: here.status };
      left.pop();
      if (left.length > 0) walker.leave();
      continue;
    }
    const status = attempt(walker.pathOf(name), () => walker.status(name));
    if (status === undefined) continue;
    yield { name, event: 'entry', status };
    if (status.type !== 'directory') continue;
    const entered = attempt(walker.pathOf(name), () => {
      walker.enter(name);
      return true;
    });
    if (entered) left.push({ names: names(), status });
  }
}
