import { closeSync } from 'node:fs';
import { directoryFlags, mkdirat, openat, unlinkat } from '../../../host/linux/file-calls.ts';
import { fstat, mustBe } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import type { AttributeWriter, NewAttributes } from './apply-attributes.ts';
import type { Made } from './apply-made.ts';
import { bytesOfPath, join } from './apply-names.ts';
import { type Directory, describe, hasDefaultAcl, type OpenDirectories } from './apply-open.ts';
import { makeOpaque, openBeneath } from './apply-union.ts';
import type { TreeForm } from './archiver.ts';
import { readXattrs, userXattrs } from './walk-xattrs.ts';

const implicit: Omit<NewAttributes, 'mtime'> = { mode: 0o755, uid: 0, gid: 0, xattrs: new Map() };

/** Brings directories into the layer, so that entries can be made in them. */
export class DirectoryMaker {
  readonly #form: TreeForm;
  readonly #attributes: AttributeWriter;
  readonly #open: OpenDirectories;
  readonly #made: Made;

  constructor(form: TreeForm, attributes: AttributeWriter, open: OpenDirectories, made: Made) {
    this.#form = form;
    this.#attributes = attributes;
    this.#open = open;
    this.#made = made;
  }

  /** A directory that was just made in the layer at this name, or stands there. */
  open(parent: Directory, name: string, isNew: { readonly replaced: boolean } | undefined): Directory {
    const path = join(parent.path, name);
    const known = this.#open.get(path);
    if (known !== undefined && known.own >= 0) return known;
    const bytes = bytesOfPath(name);
    const own = check(openat(parent.own, bytes, directoryFlags), 'open', bytes);
    if (known !== undefined) this.#open.close(known);
    const directory = this.opened(parent, name, own);
    if (isNew?.replaced) this.hide(directory);
    return directory;
  }

  /** @param own a descriptor of a directory in the layer, which becomes ours */
  opened(parent: Directory, name: string, own: number): Directory {
    return this.#open.add(describe(join(parent.path, name), own, this.#beneath(parent, name, own)));
  }

  #beneath(parent: Directory, name: string, own: number): number {
    try {
      return openBeneath(this.#form, parent, bytesOfPath(name), own);
    } catch (error) {
      closeSync(own);
      throw error;
    }
  }

  /** Nothing beneath a directory is to be seen in it any more. @returns whether anything could be */
  hide(directory: Directory): boolean {
    if (directory.below < 0) return false;
    makeOpaque(this.#form, directory);
    if (directory !== this.#open.top) closeSync(directory.below);
    directory.below = -1;
    directory.changed = true;
    this.#open.drop(directory.path, false);
    return true;
  }

  /** In the place of a whiteout, so that nothing beneath shows through. */
  makeInstead(parent: Directory, name: string): Directory {
    const bytes = bytesOfPath(name);
    check(unlinkat(parent.own, bytes), 'remove the whiteout', bytes);
    return this.make(parent, name, true);
  }

  /** A directory that no entry describes. @param replaced whether it hides what is beneath */
  make(parent: Directory, name: string, replaced: boolean): Directory {
    const bytes = bytesOfPath(name);
    check(mkdirat(parent.own, bytes, 0o700), 'make the directory', bytes);
    parent.changed = true;
    const directory = this.open(parent, name, { replaced });
    this.#setAttributes(parent, directory, bytes, { ...implicit, mtime: directory.mtime });
    return directory;
  }

  /** A directory that is only beneath so far, as it is there. */
  copyUp(parent: Directory, directory: Directory, name: string): Directory {
    const bytes = bytesOfPath(name);
    check(mkdirat(parent.own, bytes, 0o700), 'make the directory', bytes);
    parent.changed = true;
    this.#made.addCopy(directory.path);
    directory.own = check(openat(parent.own, bytes, directoryFlags), 'open', bytes);
    const status = mustBe(fstat(directory.below), bytes);
    const xattrs = userXattrs(readXattrs(directory.below), { type: 'whole' });
    this.#setAttributes(parent, directory, bytes, { ...status, xattrs });
    return directory;
  }

  #setAttributes(parent: Directory, directory: Directory, name: Buffer, attributes: NewAttributes): void {
    const { own: fd } = directory;
    const target = { directory: parent.own, name, fd, type: 'directory', inherits: parent.inherits } as const;
    this.#attributes.set(target, attributes);
    directory.mtime = attributes.mtime;
    directory.changed = true;
    directory.inherits = hasDefaultAcl(fd);
  }
}
