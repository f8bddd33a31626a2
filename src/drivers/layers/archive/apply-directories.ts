import { Internal, InvalidArgument } from '../../../errors/errors.ts';
import { directoryFlags, openat, readlinkat } from '../../../host/linux/file-calls.ts';
import { type FileStatus, lstatat } from '../../../host/linux/file-status.ts';
import { check } from '../../../host/linux/native.ts';
import type { AttributeWriter } from './apply-attributes.ts';
import type { Made } from './apply-made.ts';
import { bytesOfPath, join, parentOf, shownText } from './apply-names.ts';
import { DirectoryMaker } from './apply-new-directories.ts';
import { type Directory, describe, type OpenDirectories } from './apply-open.ts';
import { isWhiteout } from './apply-union.ts';
import type { TreeForm } from './archiver.ts';
import { longestPath } from './compare.ts';

const [ENOENT, EINVAL] = [2, 22];
const slash = 0x2f;
/** Links that are followed on the way to one entry: as many as containerd follows. */
const maxLinks = 255;
/** Names that may be left of a path while links are followed, each of which can lead back up. */
const maxNames = 32_768;

/**
 * Finds the directories that entries go to, as a process would whose root is the merged tree: links are followed
 * inside it, `..` ends at its top. What is not in the layer yet is copied up from beneath, or made.
 *
 * Each component is opened by itself without following a link, so that nothing ever leaves the two trees.
 */
export class Directories {
  readonly top: Directory;
  readonly #form: TreeForm;
  readonly #open: OpenDirectories;
  readonly #maker: DirectoryMaker;

  constructor(form: TreeForm, attributes: AttributeWriter, open: OpenDirectories, made: Made) {
    this.top = open.top;
    this.#form = form;
    this.#open = open;
    this.#maker = new DirectoryMaker(form, attributes, open, made);
  }

  /** @param path clean, of an entry's directory @returns one that is in the layer */
  make(path: string): Directory {
    const found = this.#resolve(path, true);
    if (found === undefined) throw new Internal(`the directory ${shownText(path)} was not made`);
    return found;
  }

  /** @returns one that may exist only beneath; undefined when there is none */
  find(path: string): Directory | undefined {
    return this.#resolve(path, false);
  }

  /** As {@link DirectoryMaker.open}. */
  open(parent: Directory, name: string, isNew: { readonly replaced: boolean } | undefined): Directory {
    return this.#maker.open(parent, name, isNew);
  }

  /** As {@link DirectoryMaker.hide}. */
  hide(directory: Directory): boolean {
    return this.#maker.hide(directory);
  }

  /** As {@link OpenDirectories.dropBeneath}. */
  dropBeneath(parent: Directory, name: string): void {
    if (parent.below >= 0) this.#open.dropBeneath(join(parent.path, name));
  }

  #resolve(path: string, make: boolean): Directory | undefined {
    if (path === '') return this.top;
    const known = this.#open.get(path);
    if (known !== undefined && (known.own >= 0 || !make)) return known;
    return this.#walk(path, make);
  }

  #walk(path: string, make: boolean): Directory | undefined {
    let here = this.top;
    let links = 0;
    const rest = path.split('/').reverse();
    for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
      const next = this.#step(here, name, make);
      if (next === undefined) return undefined;
      if (!Buffer.isBuffer(next)) here = next;
      else {
        links += 1;
        rest.push(...next.toString('latin1').split('/').reverse());
        if (links > maxLinks || rest.length > maxNames) throw tooManyLinks(path);
        if (next[0] === slash) here = this.top;
      }
    }
    return here;
  }

  #step(here: Directory, name: string, make: boolean): Directory | Buffer | undefined {
    if (name === '' || name === '.') return here;
    if (here.path.length + 1 + name.length > longestPath) throw tooDeep(here.path);
    return name === '..' ? this.#above(here, make) : this.#enter(here, name, make);
  }

  #above({ path }: Directory, make: boolean): Directory {
    const above = this.#resolve(parentOf(path), make);
    if (above === undefined) throw new Internal(`the directory above ${shownText(path)} is gone`);
    return above;
  }

  /** One step. @returns what a link says instead, or undefined when nothing is there */
  #enter(parent: Directory, name: string, make: boolean): Directory | Buffer | undefined {
    const path = join(parent.path, name);
    const known = this.#open.get(path);
    if (known !== undefined) return make && known.own < 0 ? this.#maker.copyUp(parent, known, name) : known;
    const bytes = bytesOfPath(name);
    const own = parent.own < 0 ? -ENOENT : openat(parent.own, bytes, directoryFlags);
    if (own >= 0) {
      return this.#maker.opened(parent, name, own);
    }
    if (own !== -ENOENT) {
      const standing = this.#standing(parent.own, path, bytes, own, make);
      if (standing !== 'whiteout') return standing;
      return make ? this.#maker.makeInstead(parent, name) : undefined;
    }
    return this.#enterBeneath(parent, name, make);
  }

  #enterBeneath(parent: Directory, name: string, make: boolean): Directory | Buffer | undefined {
    const [path, bytes] = [join(parent.path, name), bytesOfPath(name)];
    const below = parent.below < 0 ? -ENOENT : openat(parent.below, bytes, directoryFlags);
    if (below === -ENOENT) return make ? this.#maker.make(parent, name, false) : undefined;
    if (below < 0) return linkAt(parent.below, path, bytes, below, make);
    const found = this.#open.add(describe(path, -1, below));
    return make ? this.#maker.copyUp(parent, found, name) : found;
  }

  /** What stands in the layer where a directory was looked for. */
  #standing(
    own: number,
    path: string,
    name: Buffer,
    errno: number,
    make: boolean,
  ): Buffer | 'whiteout' | undefined {
    const status = lstatat(own, name);
    if (typeof status !== 'number' && this.isWhiteout(status)) return 'whiteout';
    return linkAt(own, path, name, errno, make);
  }

  /** Whether something in the layer stands for a deleted file. */
  isWhiteout(status: FileStatus): boolean {
    return isWhiteout(this.#form, status);
  }
}

/** What a link says that stands where a directory was looked for; of anything else, nothing is in it. */
function linkAt(
  directory: number,
  path: string,
  name: Buffer,
  errno: number,
  make: boolean,
): Buffer | undefined {
  const target = readlinkat(directory, name);
  if (Buffer.isBuffer(target)) return target;
  if (target !== -EINVAL) check(errno, 'open', name);
  if (!make) return undefined;
  throw new InvalidArgument(
    `the archive puts an entry into ${shownText(path)}, which is not a directory; make the archive anew`,
  );
}

function tooDeep(path: string): InvalidArgument {
  return new InvalidArgument(
    `the archive has directories more than ${longestPath} bytes deep, at ${shownText(path.slice(0, 100))}...; make it less deep`,
  );
}

function tooManyLinks(path: string): InvalidArgument {
  return new InvalidArgument(
    `too many symbolic links lead to ${shownText(path)} in the archive; make it without a loop of links`,
  );
}
