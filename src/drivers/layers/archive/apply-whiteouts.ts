import { constants } from 'node:fs';
import { mknodat, readNames } from '../../../host/linux/file-calls.ts';
import { lstatat, mustBe } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import type { Directories } from './apply-directories.ts';
import type { Made } from './apply-made.ts';
import { bytesOfPath, join } from './apply-names.ts';
import type { Directory } from './apply-open.ts';
import type { Records } from './apply-records.ts';
import type { Removal } from './apply-removal.ts';

const ENOENT = 2;
const noDevice = { major: 0, minor: 0 };

/** What the archive says about the layers beneath: it never touches what the archive itself made. */
export class Whiteouts {
  readonly #directories: Directories;
  readonly #made: Made;
  readonly #removal: Removal;
  readonly #records: Records;
  readonly #checkpoint: () => void;
  /** Directories of a layer that was not empty in which nothing but the archive's is left. */
  readonly #cleared = new Set<string>();

  constructor(parts: {
    readonly directories: Directories;
    readonly made: Made;
    readonly removal: Removal;
    readonly records: Records;
    readonly checkpoint: () => void;
  }) {
    this.#directories = parts.directories;
    this.#made = parts.made;
    this.#removal = parts.removal;
    this.#records = parts.records;
    this.#checkpoint = parts.checkpoint;
  }

  /** Hides one name; one that is not there leaves nothing. */
  hide(directory: string, name: string): void {
    const parent = this.#directories.find(directory);
    if (parent === undefined) return;
    const [bytes, path] = [bytesOfPath(name), join(parent.path, name)];
    const standing = parent.own < 0 ? -ENOENT : lstatat(parent.own, bytes);
    if (typeof standing !== 'number') {
      if (this.#directories.isWhiteout(standing)) return;
      if (this.#made.has(path)) {
        if (standing.type === 'directory') this.#clear(this.#directories.open(parent, name, undefined));
        return;
      }
      this.#removal.remove(parent, name);
    } else if (standing !== -ENOENT) check(standing, 'look at', bytes);
    if (parent.below < 0 || typeof lstatat(parent.below, bytes) === 'number') return;
    this.#makeWhiteout(this.#directories.make(parent.path), name);
  }

  /** Hides everything in a directory. */
  hideAll(directory: string): void {
    const found = this.#directories.find(directory);
    if (found === undefined) return;
    if (found === this.#directories.top && found.below >= 0) this.#hideAllInTop(found);
    else this.#clear(found.own >= 0 ? found : this.#directories.make(found.path));
  }

  /** Name by name: overlayfs merges the tops of its layers whatever attributes they have (ovl_get_root). */
  #hideAllInTop(top: Directory): void {
    if (this.#cleared.has('')) return;
    this.#cleared.add('');
    const names = new Set([top.own, top.below].flatMap(readNames).map(name => name.toString('latin1')));
    for (const name of names) if (!this.#removal.isAside(name)) this.hide('', name);
  }

  #makeWhiteout(parent: Directory, name: string): void {
    const bytes = bytesOfPath(name);
    this.#directories.dropBeneath(parent, name);
    check(mknodat(parent.own, bytes, constants.S_IFCHR, noDevice), 'make the whiteout', bytes);
    parent.changed = true;
    this.#records.add(join(parent.path, name), mustBe(lstatat(parent.own, bytes), bytes), {});
  }

  /** Leaves only what the archive made: whiteouts, too, have nothing to hide any more. */
  #clear(directory: Directory): void {
    const hidden = this.#directories.hide(directory);
    if (!hidden && (!this.#made.isTracked || this.#cleared.has(directory.path))) return;
    this.#cleared.add(directory.path);
    const paths = [directory.path];
    for (let path = paths.pop(); path !== undefined; path = paths.pop()) {
      for (const name of this.#clearOne(path)) paths.push(join(path, name));
    }
  }

  /** @returns the directories that stay */
  #clearOne(path: string): readonly string[] {
    this.#checkpoint();
    const directory = this.#directories.make(path);
    const stay: string[] = [];
    for (const bytes of readNames(directory.own)) {
      const name = bytes.toString('latin1');
      if (this.#removal.isAside(join(path, name))) continue;
      const status = mustBe(lstatat(directory.own, bytes), bytes);
      const isOurs = this.#made.has(join(path, name)) && !this.#directories.isWhiteout(status);
      if (!isOurs) this.#removal.remove(directory, name);
      else if (status.type === 'directory') stay.push(name);
    }
    return stay;
  }
}
