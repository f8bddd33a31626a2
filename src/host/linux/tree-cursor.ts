import { closeSync, constants, type Dir } from 'node:fs';
import { opendir, stat } from 'node:fs/promises';
import { Aborted } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { descriptorPath, O_CLOEXEC } from './safe-path.ts';
import { openat2, sameMount, strictlyBelow } from './system-calls.ts';

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC;

/** A name as the disk has it: Linux names are bytes and need not be UTF-8. */
export interface TreeEntry {
  readonly name: Buffer;
  readonly directory: boolean;
}

/**
 * Stands on one directory of a tree and steps into a child or back. One descriptor is open at a time, however
 * deep the tree; a step never follows a link or crosses a mount, and the way back is taken only when `..` is
 * still the directory it came from.
 */
export class TreeCursor {
  #fd: number;
  readonly #above: { readonly dev: number; readonly ino: number }[] = [];

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @param directory an open directory; it stays the caller's */
  static async at(directory: number, name: string): Promise<TreeCursor> {
    return new TreeCursor(await step(directory, Buffer.from(name), strictlyBelow));
  }

  get fd(): number {
    return this.#fd;
  }

  /** How many steps below the start. */
  get depth(): number {
    return this.#above.length;
  }

  /** The path of an entry of the directory, for node:fs. */
  pathOf(name: Buffer): Buffer {
    return Buffer.concat([Buffer.from(`${descriptorPath(this.#fd)}/`), name]);
  }

  /** Entries as they come; the directory is read again by each call. */
  async *entries(): AsyncGenerator<TreeEntry> {
    // latin1 keeps every byte of a name.
    const directory: Dir = await opendir(descriptorPath(this.#fd), { encoding: 'latin1', bufferSize: 64 });
    for await (const entry of directory) {
      yield { name: Buffer.from(entry.name, 'latin1'), directory: entry.isDirectory() };
    }
  }

  async enter(name: Buffer): Promise<void> {
    const here = await stat(descriptorPath(this.#fd));
    this.#move(await step(this.#fd, name, strictlyBelow));
    this.#above.push({ dev: here.dev, ino: here.ino });
  }

  /** @throws Aborted when the directory was moved meanwhile */
  async leave(): Promise<void> {
    const parent = await step(this.#fd, Buffer.from('..'), sameMount);
    const [expected, found] = [this.#above.pop(), await stat(descriptorPath(parent))];
    this.#move(parent);
    if (expected?.dev !== found.dev || expected.ino !== found.ino) {
      throw new Aborted('a directory was moved while its tree was walked; try again');
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #move(fd: number): void {
    closeSync(this.#fd);
    this.#fd = fd;
  }
}

async function step(from: number, name: Buffer, resolve: number): Promise<number> {
  const { value, errno } = await openat2(from, name, directoryFlags, resolve);
  if (errno !== 0) throw fromErrno(errno, `open the directory ${name.toString()}`);
  return value;
}
