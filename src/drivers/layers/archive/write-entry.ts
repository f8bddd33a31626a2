import { readSync } from 'node:fs';
import { Aborted, FailedPrecondition } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { type FileStatus, fstat } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import { bytesOf, shownPath, type TreeWalker } from '../../../host/linux/tree-walker.ts';
import type { XattrTarget } from '../../../host/linux/xattr-calls.ts';
import { noBytes, noDevice, noXattrs, type TarEntry } from '../../../tar/entry.ts';
import type { TarWriter } from '../../../tar/writer.ts';
import type { TreeForm } from './archiver.ts';
import { type Change, inode } from './compare-changes.ts';
import { targetOf, withFile } from './compare-entries.ts';
import { markerPrefix, refuseMetacopy } from './delta.ts';
import { readXattrs, userXattrs } from './walk-xattrs.ts';

const piece = Buffer.alloc(1 << 20);

/** Writes changes as archive entries, in the order in which they come. */
export class EntryWriter {
  readonly #tar: TarWriter;
  readonly #walker: TreeWalker;
  readonly #form: TreeForm;
  /** The first path of each file with several. */
  readonly #written = new Map<string, string>();

  constructor(tar: TarWriter, walker: TreeWalker, form: TreeForm) {
    this.#tar = tar;
    this.#walker = walker;
    this.#form = form;
  }

  /** @throws Aborted when the entry is not what the change says any more, FailedPrecondition for an impossible name */
  write({ path, kind, type }: Change): void {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (name.startsWith(markerPrefix)) refuseMarker(path);
    // What a socket took the place of is gone all the same.
    if (kind === 'deleted' || (type === 'socket' && kind === 'modified')) this.#whiteout(path, name);
    else if (type !== 'socket') this.#present(path, name, type);
  }

  #whiteout(path: string, name: string): void {
    const marker = path.slice(0, path.length - name.length) + markerPrefix + name;
    this.#tar.entry({ ...emptyFile, path: bytesOf(marker) });
  }

  #present(path: string, name: string, type: Change['type']): void {
    this.#walker.goTo(path.slice(0, Math.max(0, path.length - name.length - 1)));
    if (type === 'file') {
      this.#file(path, name);
      return;
    }
    const status = name === '' ? this.#walker.here() : this.#walker.status(name);
    expectType(status, type, path);
    if (!this.#hardLink(path, status)) this.#other(path, name, status);
  }

  #file(path: string, name: string): void {
    withFile({ walker: this.#walker, name }, fd => {
      const status = statusOf(fd, path);
      expectType(status, 'file', path);
      if (this.#hardLink(path, status)) return;
      refuseMetacopy(fd, this.#form, path);
      this.#tar.entry({ ...this.#entry(path, status, fd), type: 'file', size: status.size });
      this.#content(fd, status.size, path);
    });
  }

  #content(fd: number, size: number, path: string): void {
    let done = 0;
    while (done < size) {
      const length = read(fd, Math.min(piece.length, size - done), done, path);
      if (length === 0) changed(path);
      this.#tar.content(piece.subarray(0, length));
      done += length;
    }
  }

  #hardLink(path: string, status: FileStatus): boolean {
    if (status.nlink === 1 || status.type === 'directory') return false;
    const key = inode(status);
    const first = this.#written.get(key);
    if (first === undefined) {
      this.#written.set(key, path);
      return false;
    }
    const link = { ...common(path, status), type: 'hardlink', linkPath: bytesOf(first) } as const;
    this.#tar.entry(link);
    return true;
  }

  #other(path: string, name: string, status: FileStatus): void {
    const target: XattrTarget = [this.#walker.fd, bytesOf(name)];
    const { type, device } = status;
    const entry = this.#entry(path === '' ? '.' : path, status, target);
    if (type === 'symlink') {
      this.#tar.entry({ ...entry, type, linkPath: targetOf({ walker: this.#walker, name }) });
    } else if (type === 'character' || type === 'block') this.#tar.entry({ ...entry, type, device });
    else if (type === 'directory' || type === 'fifo') this.#tar.entry({ ...entry, type });
  }

  #entry(path: string, status: FileStatus, target: XattrTarget): Omit<TarEntry, 'type'> {
    return { ...common(path, status), xattrs: userXattrs(readXattrs(target), this.#form) };
  }
}

const emptyFile: Omit<TarEntry, 'path'> = {
  type: 'file',
  size: 0,
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  linkPath: noBytes,
  device: noDevice,
  xattrs: noXattrs,
};

function common(path: string, { mode, uid, gid, mtime }: FileStatus): Omit<TarEntry, 'type'> {
  return { ...emptyFile, path: bytesOf(path), mode, uid, gid, mtime };
}

function read(fd: number, length: number, at: number, path: string): number {
  try {
    return readSync(fd, piece, 0, length, at);
  } catch (error) {
    throw fromNodeError(error, `read ${shownPath(path)}`);
  }
}

function statusOf(fd: number, path: string): FileStatus {
  const status = fstat(fd);
  if (typeof status !== 'number') return status;
  check(status, `look at ${shownPath(path)}`);
  return changed(path);
}

function expectType(status: FileStatus, type: Change['type'], path: string): void {
  if (status.type !== type) changed(path);
}

function changed(path: string): never {
  throw new Aborted(
    `${shownPath(path)} changed while the layer was read; stop what writes to it and try again`,
  );
}

function refuseMarker(path: string): never {
  throw new FailedPrecondition(
    `${shownPath(path)} cannot stand in a layer archive, where names that begin with ".wh." mean deleted files (OCI image spec, layer.md); rename it`,
  );
}
