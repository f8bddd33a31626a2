import { closeSync, constants, type Stats } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, readdir, rename, rmdir, stat, statfs } from 'node:fs/promises';
import type { Attributes, Directory, DirectoryOptions, Durability, Usage } from '../../core/ports.ts';
import { AlreadyExists, NotFound } from '../../errors/errors.ts';
import { errorCode, fromErrno, fromNodeError } from '../../errors/from-errno.ts';
import { syncDirectory, syncDirectoryAt, writeWhole } from './durable-file.ts';
import { descriptorPath, O_PATH, type Root, withOpen, withParent } from './safe-path.ts';
import { FS_IMMUTABLE_FL, inodeFlags, must, renameNew, setInodeFlags } from './system-calls.ts';
import { measureTree, removeTree } from './trees.ts';

const readDirectory = constants.O_RDONLY | constants.O_DIRECTORY;
const defaultMode = 0o755;
/** What a directory is made with, before it gets its attributes. */
const privateMode = 0o700;

/** A directory of a Linux file system. It keeps a descriptor, so its file system is in use until `close`. */
export class LinuxDirectory implements Directory {
  readonly path: string;
  readonly #root: Root;

  /** @param fd the open directory, which this object closes */
  constructor(path: string, fd: number) {
    this.path = path;
    this.#root = { fd, path };
  }

  makeDirectory(path: string, options: DirectoryOptions = {}): Promise<void> {
    const { exist, durable = true, ...attributes } = options;
    return this.#do('make the directory', path, async () => {
      const made = await withParent(this.#root, path, async (parent, name) => {
        const isNew = await makeNew(descriptorPath(parent, name), exist === 'ok');
        if (durable) await syncDirectory(parent);
        return isNew;
      });
      const { mode, ...owner } = made ? { mode: defaultMode, ...attributes } : attributes;
      const isAsMade = made && mode === privateMode && Object.keys(owner).length === 0;
      if (!isAsMade) await this.#change(path, { ...owner, ...(mode !== undefined && { mode }) }, durable);
    });
  }

  setAttributes(path: string, attributes: Partial<Attributes>): Promise<void> {
    return this.#do('change', path, () => this.#change(path, attributes, true));
  }

  #change(path: string, { uid, gid, mode }: Partial<Attributes>, durable: boolean): Promise<void> {
    return withOpen(this.#root, path, O_PATH, async fd => {
      const file = descriptorPath(fd);
      const unchanged = -1; // chown(2)
      if (uid !== undefined || gid !== undefined) await chown(file, uid ?? unchanged, gid ?? unchanged);
      // After chown, which clears the set-user-ID bits.
      if (mode !== undefined) await chmod(file, mode);
      if (durable && (await stat(file)).isDirectory()) await syncDirectoryAt(file);
    });
  }

  attributes(path: string): Promise<Attributes> {
    return this.#do('look at', path, () =>
      withOpen(this.#root, path, O_PATH, async fd => {
        const { uid, gid, mode } = await stat(descriptorPath(fd));
        return { uid, gid, mode: mode & 0o7777 };
      }),
    );
  }

  readFile(path: string): Promise<string | undefined> {
    return this.#do('read', path, () =>
      withParent(this.#root, path, async (parent, name) => {
        // Without O_NONBLOCK a FIFO in the file's place would block for ever.
        const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
        const file = await open(descriptorPath(parent, name), flags);
        try {
          return await file.readFile('utf8');
        } finally {
          await file.close();
        }
      }).catch(undefinedWhenMissing),
    );
  }

  writeFile(path: string, text: string, { durable = true }: Durability = {}): Promise<void> {
    return this.#do('write', path, () =>
      withParent(this.#root, path, (parent, name) => writeWhole(parent, name, text, { durable })),
    );
  }

  rename(from: string, to: string, { durable = true }: Durability = {}): Promise<void> {
    return this.#do(`move to ${to} the file`, from, () =>
      withParent(this.#root, from, (fromParent, fromName) =>
        withParent(this.#root, to, async (toParent, toName) => {
          await moveNew(fromParent, fromName, toParent, toName);
          if (!durable) return;
          await syncDirectory(toParent);
          if (fromParent !== toParent) await syncDirectory(fromParent);
        }),
      ),
    );
  }

  sync(): Promise<void> {
    return this.#do('sync', '.', () => withOpen(this.#root, '.', readDirectory, syncDirectory));
  }

  exists(path: string): Promise<boolean> {
    return this.#do('look for', path, async () => (await this.#lstat(path)) !== undefined);
  }

  fingerprint(path: string): Promise<string | undefined> {
    return this.#do('look at', path, () =>
      withParent(this.#root, path, async (parent, name) => {
        const { dev, ino, ctimeNs } = await lstat(descriptorPath(parent, name), { bigint: true });
        return `${dev}:${ino}:${ctimeNs}`;
      }).catch(undefinedWhenMissing),
    );
  }

  list(path: string): Promise<readonly string[]> {
    return this.#do('list', path, () =>
      withOpen(this.#root, path, readDirectory, async fd => (await readdir(descriptorPath(fd))).sort()),
    );
  }

  removeTree(path: string): Promise<void> {
    return this.#do('remove the tree', path, () =>
      withParent(this.#root, path, removeTree).catch(undefinedWhenMissing),
    );
  }

  removeDirectory(path: string): Promise<void> {
    return this.#do('remove the directory', path, () =>
      withParent(this.#root, path, (parent, name) => rmdir(descriptorPath(parent, name))).catch(
        undefinedWhenMissing,
      ),
    );
  }

  setImmutable(path: string, immutable: boolean): Promise<boolean> {
    return this.#do('set the immutable flag of', path, () =>
      withOpen(this.#root, path, readDirectory, async fd => {
        const { value, errno } = inodeFlags(fd);
        if (isUnsupported(errno)) return false;
        must({ value, errno }, `read the flags of ${path}`);
        const wanted = immutable ? value | FS_IMMUTABLE_FL : value & ~FS_IMMUTABLE_FL;
        if (wanted === value) return true;
        const set = setInodeFlags(fd, wanted);
        if (isUnsupported(set.errno)) return false;
        must(set, `set the immutable flag of ${path}`);
        return true;
      }),
    );
  }

  usage(path: string, signal: AbortSignal): Promise<Usage> {
    return this.#do('measure', path, () =>
      withOpen(this.#root, path, O_PATH | constants.O_DIRECTORY, async fd => {
        const { bytes, inodes } = await measureTree(fd, signal);
        return { bytes, inodes };
      }),
    );
  }

  /** Opens a directory in it for the time of `use`, for those in `host/` that need its descriptor. */
  withDirectory<T>(path: string, use: (fd: number) => Promise<T>): Promise<T> {
    return withOpen(this.#root, path, readDirectory, use);
  }

  async space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return await this.#do('measure', '.', async () => {
      const { bavail, blocks, bsize } = await statfs(descriptorPath(this.#root.fd));
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    });
  }

  async close(): Promise<void> {
    closeSync(this.#root.fd);
  }

  async #lstat(path: string): Promise<Stats | undefined> {
    if (path === '.') return await stat(descriptorPath(this.#root.fd));
    return await withParent(this.#root, path, (parent, name) => lstat(descriptorPath(parent, name))).catch(
      undefinedWhenMissing,
    );
  }

  async #do<T>(verb: string, path: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw fromNodeError(error, `${verb} ${path} in ${this.path}`);
    }
  }
}

/** @returns false when it was there before, and may be */
async function makeNew(path: string, mayExist: boolean): Promise<boolean> {
  try {
    await mkdir(path, privateMode);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && mayExist) {
      if ((await lstat(path)).isDirectory()) return false;
      throw new AlreadyExists('something that is not a directory has this name; move it away');
    }
    throw error;
  }
}

/** Moves, unless the target exists; file systems that cannot say so (EINVAL) are asked first. */
async function moveNew(
  fromParent: number,
  fromName: string,
  toParent: number,
  toName: string,
): Promise<void> {
  const { errno } = await renameNew(fromParent, fromName, toParent, toName);
  const EINVAL = 22;
  if (errno === 0) return;
  if (errno !== EINVAL) throw fromErrno(errno, `move ${fromName} to ${toName}`);
  const target = descriptorPath(toParent, toName);
  const there = await lstat(target).catch(undefinedWhenMissing);
  if (there !== undefined) throw new AlreadyExists(`cannot move ${fromName}: ${toName} exists already`);
  await rename(descriptorPath(fromParent, fromName), target);
}

function undefinedWhenMissing(error: unknown): undefined {
  if (error instanceof NotFound || errorCode(error) === 'ENOENT') return undefined;
  throw error;
}

/** ENOTTY, EOPNOTSUPP, ENOSYS: the file system has no such flags. */
function isUnsupported(errno: number): boolean {
  return [25, 95, 38].includes(errno);
}
