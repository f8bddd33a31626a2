import { closeSync, constants } from 'node:fs';
import { InvalidArgument } from '../../../errors/errors.ts';
import {
  linkat,
  mknodat,
  newFileFlags,
  openat,
  readlinkat,
  symlinkat,
} from '../../../host/linux/file-calls.ts';
import { type FileStatus, lstatat, mustBe } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import type { TarEntry } from '../../../tar/entry.ts';
import type { AttributeWriter } from './apply-attributes.ts';
import type { Directories } from './apply-directories.ts';
import type { EntryMaker } from './apply-entries.ts';
import type { Made } from './apply-made.ts';
import { bytesOfPath, cleanPath, join, nameOf, parentOf, shownText } from './apply-names.ts';
import type { Directory, OpenDirectories } from './apply-open.ts';
import type { Records } from './apply-records.ts';
import { DataCopier } from './copy-data.ts';
import type { FileSender } from './file-queue.ts';
import { readXattrs, userXattrs } from './walk-xattrs.ts';

const bits = { character: constants.S_IFCHR, block: constants.S_IFBLK, fifo: constants.S_IFIFO } as const;

/** Hard links. A file that is only beneath is copied into the layer first, since a link cannot lead out of it. */
export class LinkMaker {
  readonly #directories: Directories;
  readonly #open: OpenDirectories;
  readonly #attributes: AttributeWriter;
  readonly #entries: EntryMaker;
  readonly #records: Records;
  readonly #made: Made;
  readonly #files: FileSender;
  readonly #checkpoint: () => void;
  readonly #copier = new DataCopier();

  constructor(parts: {
    readonly directories: Directories;
    readonly open: OpenDirectories;
    readonly attributes: AttributeWriter;
    readonly entries: EntryMaker;
    readonly records: Records;
    readonly made: Made;
    readonly files: FileSender;
    readonly checkpoint: () => void;
  }) {
    this.#directories = parts.directories;
    this.#open = parts.open;
    this.#attributes = parts.attributes;
    this.#entries = parts.entries;
    this.#records = parts.records;
    this.#made = parts.made;
    this.#files = parts.files;
    this.#checkpoint = parts.checkpoint;
  }

  /**
   * The attributes of the entry are those of the file that it links to, and are not set again.
   * @returns where it really is @throws InvalidArgument when the target is missing or a directory
   */
  make(path: string, entry: TarEntry): string {
    // Only then it is known what its target is.
    this.#files.settle();
    const target = cleanPath(entry.linkPath);
    const name = nameOf(target);
    const from = this.#targetDirectory(path, target);
    return this.#open.holding(from, () => {
      const found = mustBe(lstatat(from.own, bytesOfPath(name)), bytesOfPath(name));
      const parent = this.#directories.make(parentOf(path));
      const real = join(parent.path, nameOf(path));
      if (isSame(parent, nameOf(path), found)) return real;
      const create = (bytes: Buffer) => linkat(from.own, bytesOfPath(name), parent.own, bytes);
      this.#entries.replacing(parent, nameOf(path), 'make the hard link', create);
      this.#records.link(real, found, from, name);
      return real;
    });
  }

  /** The directory that holds the target, which is in the layer then. */
  #targetDirectory(path: string, target: string): Directory {
    const found = target === '' ? undefined : this.#directories.find(parentOf(target));
    const name = bytesOfPath(nameOf(target));
    if (found === undefined) throw noTarget(path, target);
    const status = found.own < 0 ? -1 : lstatat(found.own, name);
    if (typeof status !== 'number') {
      if (status.type === 'directory' || this.#directories.isWhiteout(status)) throw noTarget(path, target);
      return found;
    }
    const below = found.below < 0 ? -1 : lstatat(found.below, name);
    if (typeof below === 'number' || below.type === 'directory') throw noTarget(path, target);
    const parent = this.#directories.make(found.path);
    this.#copyUp(parent, name, below);
    this.#made.addCopy(join(parent.path, nameOf(target)));
    return parent;
  }

  #copyUp(parent: Directory, name: Buffer, status: FileStatus): void {
    const { own: directory, below, inherits } = parent;
    const xattrs = userXattrs(readXattrs([below, name]), { type: 'whole' });
    const attributes = { ...status, xattrs };
    const { type } = status;
    parent.changed = true;
    if (type === 'file') {
      const fd = check(openat(directory, name, newFileFlags, 0o600), 'make', name);
      try {
        this.#copyData(below, name, status.size, fd);
        this.#attributes.set({ directory, name, fd, type, inherits }, attributes);
      } finally {
        closeSync(fd);
      }
      return;
    }
    if (type === 'symlink') {
      const says = readlinkat(below, name);
      if (typeof says === 'number') check(says, 'read the link', name);
      else check(symlinkat(says, directory, name), 'make the symbolic link', name);
    } else if (type in bits) {
      const mode = bits[type as keyof typeof bits] | 0o600;
      check(mknodat(directory, name, mode, status.device), 'make the device or pipe', name);
    } else {
      throw new InvalidArgument(
        `the archive links to the socket ${shownText(name.toString('latin1'))}; remove that entry`,
      );
    }
    this.#attributes.set({ directory, name, type, inherits }, attributes);
  }

  #copyData(directory: number, name: Buffer, size: number, into: number): void {
    const from = check(openat(directory, name, constants.O_RDONLY | constants.O_NOFOLLOW), 'open', name);
    try {
      this.#copier.copy(from, into, size, this.#checkpoint);
    } finally {
      closeSync(from);
    }
  }
}

/** Whether the link is there already: an archive may name a file twice. */
function isSame(parent: Directory, name: string, { ino, dev }: FileStatus): boolean {
  const standing = lstatat(parent.own, bytesOfPath(name));
  return typeof standing !== 'number' && standing.ino === ino && standing.dev === dev;
}

function noTarget(path: string, target: string): InvalidArgument {
  return new InvalidArgument(
    `the archive has a hard link ${shownText(path)} to ${shownText(target)}, and there is no such file; make the archive anew`,
  );
}
