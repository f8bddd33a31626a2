import { readlinkat } from '../../../host/linux/file-calls.ts';
import { type FileStatus, fstat, lstatat, mustBe } from '../../../host/linux/file-status.ts';
import type { XattrTarget } from '../../../host/linux/xattr-calls.ts';
import type { Directories } from './apply-directories.ts';
import { bytesOfPath, join, nameOf, parentOf } from './apply-names.ts';
import type { Directory } from './apply-open.ts';
import { attributesCrc, type DigestWriter } from './digests.ts';
import type { FileAnswer } from './file-queue.ts';
import { readXattrs } from './walk-xattrs.ts';

/** Regular files that are remembered, because hard links to them may follow; and links, because others may. */
const maxRemembered = 65_536;

interface Known {
  readonly path: string;
  readonly content: number;
  readonly attributes: number;
}

export interface Extra {
  /** CRC-32 of a file's bytes. */
  readonly content?: number;
  readonly linkTarget?: Buffer;
  readonly xattrsOf?: XattrTarget | undefined;
}

const noXattrs: ReadonlyMap<string, Buffer> = new Map();
const noTarget = Buffer.alloc(0);

/**
 * Records what apply made. A hard link changes the inode's time of change, by which verify tells damage from change:
 * all names of an inode are therefore recorded in the end, as far as they are remembered. What has no record gets
 * one when the layer is verified for the first time.
 */
export class Records {
  readonly #digests: DigestWriter;
  readonly #files = new Map<bigint, Known>();
  readonly #linked = new Map<bigint, Known & { readonly paths: string[] }>();
  #links = 0;

  constructor(digests: DigestWriter) {
    this.#digests = digests;
  }

  /** @param extra what cannot be seen from the status; `xattrsOf` when there may be some */
  add(path: string, status: FileStatus, extra: Extra): void {
    const { content = 0, linkTarget = noTarget, xattrsOf } = extra;
    const xattrs = xattrsOf === undefined ? noXattrs : readXattrs(xattrsOf);
    const attributes = attributesCrc({ ...status, linkTarget, xattrs });
    if (status.type === 'file') this.file(path, { ...status, content, attributes });
    else this.#put(path, status, content, attributes);
  }

  /** A regular file. */
  file(path: string, { ino, size, ctimeNs, content, attributes }: FileAnswer): void {
    this.#put(path, { type: 'file', size, ctimeNs }, content, attributes);
    if (this.#files.size === maxRemembered) this.#files.clear();
    this.#files.set(ino, { path, content, attributes });
  }

  directory({ path, own }: Directory): void {
    this.add(path, mustBe(fstat(own), bytesOfPath(path)), { xattrsOf: own });
  }

  /** Another name for what stands at a name in a directory. */
  link(path: string, status: FileStatus, parent: Directory, name: string): void {
    const { ino } = status;
    const known = status.type === 'file' ? this.#files.get(ino) : describe(status, parent, name);
    const linked = this.#linked.get(ino) ?? (known && { ...known, paths: [known.path] });
    if (linked === undefined || this.#links === maxRemembered) return;
    linked.paths.push(path);
    this.#links += 1;
    this.#linked.set(ino, linked);
  }

  forget(path: string): void {
    this.#digests.forget(bytesOfPath(path));
  }

  /** Records linked files as they are now; what was replaced since is left alone. */
  finishLinks(directories: Directories): void {
    for (const [ino, { paths, content, attributes }] of this.#linked) {
      for (const path of paths) {
        const parent = directories.find(parentOf(path));
        const status = parent === undefined ? -1 : lstatat(parent.own, bytesOfPath(nameOf(path)));
        if (typeof status !== 'number' && status.ino === ino) this.#put(path, status, content, attributes);
      }
    }
  }

  #put(
    path: string,
    { type, size, ctimeNs }: Pick<FileStatus, 'type' | 'size' | 'ctimeNs'>,
    content: number,
    attributes: number,
  ): void {
    const length = type === 'file' ? size : 0;
    this.#digests.add({ path: bytesOfPath(path), type, size: length, content, attributes, ctimeNs });
  }
}

/** Of what has no content: nothing of it has to be remembered. */
function describe(status: FileStatus, parent: Directory, name: string): Known {
  const at = [parent.own, bytesOfPath(name)] as const;
  const target = status.type === 'symlink' ? readlinkat(...at) : noTarget;
  const linkTarget = typeof target === 'number' ? noTarget : target;
  const attributes = attributesCrc({ ...status, linkTarget, xattrs: readXattrs(at) });
  return { path: join(parent.path, name), content: 0, attributes };
}
