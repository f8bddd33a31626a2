import { closeSync, constants } from 'node:fs';
import { InvalidArgument } from '../../../errors/errors.ts';
import { mkdirat, mknodat, newFileFlags, openat, symlinkat } from '../../../host/linux/file-calls.ts';
import { type FileType, lstatat } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import type { Piece } from '../../../tar/content.ts';
import { noBytes, type TarEntry } from '../../../tar/entry.ts';
import type { AttributeWriter } from './apply-attributes.ts';
import { writeContent } from './apply-content.ts';
import type { Directories } from './apply-directories.ts';
import { bytesOfPath, join, nameOf, parentOf, shownText } from './apply-names.ts';
import type { Directory } from './apply-open.ts';
import type { Records } from './apply-records.ts';
import type { Removal } from './apply-removal.ts';
import type { FileSender } from './file-queue.ts';

const EEXIST = 17;
/** Of a mode: the rest is set when the owner is right. */
const permissions = 0o777;

/** Where an entry goes to. */
interface Place {
  readonly parent: Directory;
  readonly name: string;
  readonly bytes: Buffer;
  /** Without links. */
  readonly path: string;
}

/** Makes what entries describe. What stands in the way is removed, and never written to (unlink and recreate). */
export class EntryMaker {
  readonly #directories: Directories;
  readonly #attributes: AttributeWriter;
  readonly #removal: Removal;
  readonly #records: Records;
  readonly #files: FileSender;

  constructor(parts: {
    readonly directories: Directories;
    readonly attributes: AttributeWriter;
    readonly removal: Removal;
    readonly records: Records;
    readonly files: FileSender;
  }) {
    this.#directories = parts.directories;
    this.#attributes = parts.attributes;
    this.#removal = parts.removal;
    this.#records = parts.records;
    this.#files = parts.files;
  }

  /** @param path clean @returns where it really is, without links */
  make(path: string, entry: TarEntry, content: Iterable<Piece>): string {
    if (path === '') return this.#setTop(entry);
    const parent = this.#directories.make(parentOf(path));
    const name = nameOf(path);
    const place = { parent, name, bytes: bytesOfPath(name), path: join(parent.path, name) };
    switch (entry.type) {
      case 'file':
        this.#makeFile(place, entry, content);
        break;
      case 'directory':
        this.#makeDirectory(place, entry);
        break;
      case 'symlink':
        this.#makeLink(place, entry);
        break;
      case 'hardlink':
        throw new InvalidArgument(`${shownText(path)} is a hard link`);
      case 'character':
      case 'block':
      case 'fifo':
        this.#makeNode(place, entry, entry.type);
        break;
    }
    return place.path;
  }

  /** Makes something with a call that fails with EEXIST while something stands there. @returns what the call gives */
  replacing(parent: Directory, name: string, action: string, call: (name: Buffer) => number): number {
    return this.#replacing({ parent, name, bytes: bytesOfPath(name) }, action, call);
  }

  #replacing(
    { parent, name, bytes }: Omit<Place, 'path'>,
    action: string,
    call: (name: Buffer) => number,
  ): number {
    this.#directories.dropBeneath(parent, name);
    let result = call(bytes);
    if (result === -EEXIST) {
      this.#removal.remove(parent, name);
      result = call(bytes);
    }
    parent.changed = true;
    return check(result, action, bytes);
  }

  #setTop(entry: TarEntry): string {
    if (entry.type !== 'directory') {
      throw new InvalidArgument(
        'an entry of the archive would replace the top of the layer; make the archive anew',
      );
    }
    this.#setDirectory(this.#directories.top, this.#directories.top, Buffer.from('.'), entry, undefined);
    return '';
  }

  #makeFile(place: Place, entry: TarEntry, pieces: Iterable<Piece>): void {
    const mode = entry.mode & permissions;
    const create = (bytes: Buffer) => openat(place.parent.own, bytes, newFileFlags, mode);
    const fd = this.#replacing(place, 'make', create);
    if (!place.parent.inherits && entry.xattrs.size === 0) {
      const { size, uid, gid, mtime } = entry;
      this.#files.send({ fd, path: place.path, size, mode: entry.mode, uid, gid, mtime }, pieces);
      return;
    }
    try {
      const content = writeContent(fd, entry.size, pieces, place.path);
      this.#finish(place, entry, 'file', { fd, content });
    } finally {
      closeSync(fd);
    }
  }

  #makeDirectory({ parent, name, bytes }: Place, entry: TarEntry): void {
    // Something has to be made in it, whatever its mode.
    const mode = (entry.mode & permissions) | 0o700;
    let replaced = false;
    let result = mkdirat(parent.own, bytes, mode);
    const isNew = result !== -EEXIST;
    if (!isNew && !isDirectory(parent, bytes)) {
      this.#removal.remove(parent, name);
      replaced = true;
      result = mkdirat(parent.own, bytes, mode);
    }
    if (result !== -EEXIST) {
      check(result, 'make the directory', bytes);
      parent.changed = true;
    }
    const made = isNew || replaced ? { replaced } : undefined;
    const directory = this.#directories.open(parent, name, made);
    this.#setDirectory(parent, directory, bytes, entry, made);
  }

  /** @param made undefined when it was there */
  #setDirectory(
    parent: Directory,
    directory: Directory,
    name: Buffer,
    entry: TarEntry,
    made: object | undefined,
  ): void {
    const { own: fd } = directory;
    const inherits = made !== undefined && parent.inherits;
    if (made === undefined || inherits) this.#attributes.removeOtherXattrs(fd, entry.xattrs);
    this.#attributes.set({ directory: parent.own, name, fd, type: 'directory', inherits }, entry);
    directory.inherits = entry.xattrs.has('system.posix_acl_default');
    directory.mtime = entry.mtime;
    directory.changed = true;
  }

  #makeLink(place: Place, entry: TarEntry): void {
    const { linkPath: linkTarget } = entry;
    const create = (bytes: Buffer) => symlinkat(linkTarget, place.parent.own, bytes);
    this.#replacing(place, 'make the symbolic link', create);
    this.#finish(place, entry, 'symlink', { linkTarget });
  }

  #makeNode(place: Place, entry: TarEntry, type: 'character' | 'block' | 'fifo'): void {
    const device = allowedDevice(entry, type, place.path);
    const bits = { character: constants.S_IFCHR, block: constants.S_IFBLK, fifo: constants.S_IFIFO }[type];
    const mode = bits | (entry.mode & permissions);
    const create = (bytes: Buffer) => mknodat(place.parent.own, bytes, mode, device);
    this.#replacing(place, 'make the device or pipe', create);
    this.#finish(place, entry, type, {});
  }

  #finish(
    { parent, bytes: name, path }: Place,
    entry: TarEntry,
    type: FileType,
    {
      fd,
      content = 0,
      linkTarget = noBytes,
    }: Partial<Record<'fd' | 'content', number>> & { linkTarget?: Buffer },
  ): void {
    const directory = parent.own;
    const status = this.#attributes.set({ directory, name, fd, type, inherits: parent.inherits }, entry);
    const xattrsOf = entry.xattrs.size > 0 ? (fd ?? ([directory, name] as const)) : undefined;
    this.#records.add(path, status, { content, linkTarget, xattrsOf });
  }
}

function isDirectory(parent: Directory, name: Buffer): boolean {
  const status = lstatat(parent.own, name);
  return typeof status !== 'number' && status.type === 'directory';
}

/** @throws InvalidArgument for a whiteout of overlayfs */
function allowedDevice(
  entry: TarEntry,
  type: 'character' | 'block' | 'fifo',
  path: string,
): TarEntry['device'] {
  const { major, minor } = entry.device;
  if (type === 'fifo') return { major: 0, minor: 0 };
  if (type === 'character' && major === 0 && minor === 0) {
    throw new InvalidArgument(
      `the archive has a character device 0/0 at ${shownText(path)}, which would hide a file; a whiteout is a file named .wh.NAME`,
    );
  }
  return { major, minor };
}
