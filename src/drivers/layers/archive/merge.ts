/**
 * Two deltas, one on the other, as one delta: every file gets another hard link, so that no data is copied. What is
 * not a directory comes from the upper one, or else from the lower one; directories are made anew.
 *
 * A whiteout stays while there is something beneath both that it hides. A directory is opaque when what is beneath
 * must not shine through: one of the two was opaque, or the lower one hid or replaced what is there. Both are left out
 * where nothing is beneath.
 *
 * In the delta of a volume a directory may have been renamed: `PREFIXredirect` then says where it is beneath, by a
 * path from the top, or by another name in the same directory (kernel, Documentation/filesystems/overlayfs.rst,
 * "redirect_dir"). Such a name is looked up in the lower delta, which may redirect further; the result says where the
 * directory is beneath both.
 */

import { closeSync } from 'node:fs';
import { FailedPrecondition } from '../../../errors/errors.ts';
import { fromErrno } from '../../../errors/from-errno.ts';
import {
  directoryFlags,
  linkat,
  mkdirat,
  mknodat,
  openat,
  readNames,
} from '../../../host/linux/file-calls.ts';
import { lstatat } from '../../../host/linux/file-status.ts';
import { check, shown } from '../../../host/linux/native.ts';
import { getXattr, setXattr } from '../../../host/linux/xattr-calls.ts';
import { copyDirectoryAttributes } from './union-attributes.ts';

export interface MergeArgs {
  readonly upper: number;
  readonly lower: number;
  readonly below: number | null;
  readonly into: number;
  readonly prefix: string;
  readonly redirects: boolean;
}

type Kind = 'absent' | 'whiteout' | 'directory' | 'other';

/** A directory beneath both deltas, and where it is there: '' for the top, otherwise with a slash before each name. */
interface Beneath {
  readonly fd: number;
  readonly path: Buffer;
}

/** What one directory of the result is made of. */
interface Sources {
  readonly upper: number | null;
  readonly lower: number | null;
  readonly below: Beneath | null;
}

const [ENOENT, EMLINK] = [2, 31];
/** Each keeps up to four descriptors, and some of the stack. */
const maxLevels = 1000;
const S_IFCHR = 0o020000;
const slash = Buffer.from('/');

/** Runs in a worker. @throws Aborted; FailedPrecondition when directories are nested too deep */
export function mergeTask(args: MergeArgs, context: { throwIfAborted(): void }): void {
  const { upper, lower, below, into } = args;
  const top = { upper, lower, below: below === null ? null : { fd: below, path: Buffer.alloc(0) } };
  new Merger(args, top, context).fill(top, into);
}

class Merger {
  readonly #prefix: string;
  readonly #redirects: boolean;
  readonly #top: Sources;
  readonly #context: { throwIfAborted(): void };
  #level = 0;

  constructor({ prefix, redirects }: MergeArgs, top: Sources, context: { throwIfAborted(): void }) {
    this.#prefix = prefix;
    this.#redirects = redirects;
    this.#top = top;
    this.#context = context;
  }

  /** Fills an empty directory, and then gives it the attributes of the uppermost. */
  fill(sources: Sources, into: number): void {
    this.#context.throwIfAborted();
    for (const name of namesIn(sources)) this.#entry(sources, name, into);
    const { upper, lower } = sources;
    const uppermost = upper ?? lower;
    if (uppermost !== null) copyDirectoryAttributes(uppermost, into, this.#prefix);
  }

  #entry(sources: Sources, name: Buffer, into: number): void {
    const { upper, lower, below } = sources;
    const from = kindIn(upper, name) === 'absent' ? lower : upper;
    const kind = kindIn(from, name);
    if (from === null || kind === 'absent') return;
    if (kind === 'directory') this.#directory(sources, name, into);
    else if (kind === 'other') check(linkat(from, name, into, name), 'link', name);
    else if (kindIn(below?.fd ?? null, name) !== 'absent') linkWhiteout(from, name, into);
  }

  #directory(sources: Sources, name: Buffer, into: number): void {
    if (this.#level === maxLevels) throw tooDeep();
    this.#level += 1;
    const { upper, below } = sources;
    const own = openIn(upper, name);
    let found: Omit<Sources, 'upper'> = { lower: null, below: null };
    let made: number | null = null;
    try {
      found = this.#beneath(sources, own, name);
      check(mkdirat(into, name, 0o700), 'make the directory', name);
      made = check(openat(into, name, directoryFlags), 'open', name);
      if (found.below === null) {
        if (kindIn(below?.fd ?? null, name) !== 'absent') this.#mark(made, 'opaque', Buffer.from('y'));
      } else if (below === null || !found.below.path.equals(pathOf(below, name))) {
        this.#mark(made, 'redirect', found.below.path);
      }
      this.fill({ upper: own, ...found }, made);
    } finally {
      for (const fd of [own, found.lower, found.below?.fd, made]) if (fd != null) closeSync(fd);
      this.#level -= 1;
    }
  }

  /** Where a directory goes on beneath the upper delta. */
  #beneath(sources: Sources, own: number | null, name: Buffer): Omit<Sources, 'upper'> {
    if (own !== null && this.#isOpaque(own)) return { lower: null, below: null };
    const redirect = own === null ? undefined : this.#redirect(own);
    if (redirect !== undefined && isAbsolute(redirect)) return this.#find(redirect);
    return this.#step(sources, redirect ?? name);
  }

  /** A path in the tree beneath the upper delta. */
  #find(path: Buffer): Omit<Sources, 'upper'> {
    let here: Omit<Sources, 'upper'> = this.#top;
    for (const name of componentsOf(path)) {
      const next = this.#step(here, name);
      if (here !== this.#top) close(here);
      here = next;
    }
    return here;
  }

  /** A directory in the lower delta, and where it goes on beneath that; nothing when something hides it. */
  #step({ lower, below }: Omit<Sources, 'upper'>, name: Buffer): Omit<Sources, 'upper'> {
    const kind = kindIn(lower, name);
    if (kind === 'absent') return { lower: null, below: enter(below, name) };
    const own = openIn(lower, name);
    if (own === null || this.#isOpaque(own)) return { lower: own, below: null };
    const redirect = this.#redirect(own);
    const isMoved = redirect !== undefined && isAbsolute(redirect);
    return { lower: own, below: isMoved ? this.#findBelow(redirect) : enter(below, redirect ?? name) };
  }

  #findBelow(path: Buffer): Beneath | null {
    const top = this.#top.below;
    let here = top;
    for (const name of componentsOf(path)) {
      const next = enter(here, name);
      if (here !== top && here !== null) closeSync(here.fd);
      here = next;
    }
    return here;
  }

  #isOpaque(directory: number): boolean {
    const value = getXattr(directory, `${this.#prefix}opaque`);
    return typeof value !== 'number' && value.toString('latin1') === 'y';
  }

  #redirect(directory: number): Buffer | undefined {
    if (!this.#redirects) return undefined;
    const value = getXattr(directory, `${this.#prefix}redirect`);
    return typeof value === 'number' ? undefined : value;
  }

  #mark(directory: number, mark: 'opaque' | 'redirect', value: Buffer): void {
    check(setXattr(directory, `${this.#prefix}${mark}`, value), `set the attribute ${mark} of a directory`);
  }
}

/** In the order of the file system, those of the upper one first. */
function namesIn({ upper, lower }: Sources): readonly Buffer[] {
  const names = new Map<string, Buffer>();
  for (const directory of [upper, lower]) {
    if (directory === null) continue;
    for (const name of readNames(directory)) names.set(name.toString('latin1'), name);
  }
  return [...names.values()];
}

function kindIn(directory: number | null, name: Buffer): Kind {
  if (directory === null) return 'absent';
  const status = lstatat(directory, name);
  if (status === -ENOENT) return 'absent';
  if (typeof status === 'number') throw fromErrno(-status, `look at ${shown(name)}`);
  if (status.type === 'directory') return 'directory';
  const { major, minor } = status.device;
  return status.type === 'character' && major === 0 && minor === 0 ? 'whiteout' : 'other';
}

function openIn(directory: number | null, name: Buffer): number | null {
  if (directory === null || kindIn(directory, name) !== 'directory') return null;
  return check(openat(directory, name, directoryFlags), 'open', name);
}

function enter(here: Beneath | null, name: Buffer): Beneath | null {
  if (here === null) return null;
  const fd = openIn(here.fd, name);
  return fd === null ? null : { fd, path: pathOf(here, name) };
}

function isAbsolute(path: Buffer): boolean {
  return path[0] === slash[0];
}

function pathOf({ path }: Beneath, name: Buffer): Buffer {
  return Buffer.concat([path, slash, name]);
}

function componentsOf(path: Buffer): readonly Buffer[] {
  const names = path
    .toString('latin1')
    .split('/')
    .filter(name => name !== '');
  return names.map(name => Buffer.from(name, 'latin1'));
}

function close({ lower, below }: Omit<Sources, 'upper'>): void {
  for (const fd of [lower, below?.fd]) if (fd != null) closeSync(fd);
}

function tooDeep(): FailedPrecondition {
  return new FailedPrecondition(
    `cannot merge two layers: they have more than ${maxLevels} directories inside each other; remove the layers above them first`,
  );
}

/** The kernel lets whiteouts share one inode, up to as many names as the file system allows. */
function linkWhiteout(from: number, name: Buffer, into: number): void {
  const result = linkat(from, name, into, name);
  if (result !== -EMLINK) check(result, 'link the whiteout', name);
  else check(mknodat(into, name, S_IFCHR, { major: 0, minor: 0 }), 'make the whiteout', name);
}
