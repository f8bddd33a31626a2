/** Subvolumes of btrfs: trees of their own, which can share all that they hold with others. */
import { stat } from 'node:fs/promises';
import { btrfs, readU64, writeU64 } from './btrfs-ioctl.ts';
import { searchTree } from './btrfs-search.ts';
import { descriptorPath } from './safe-path.ts';

const SUBVOL_CREATE_V2 = 0x50009418;
const SNAP_CREATE_V2 = 0x50009417;
const SNAP_DESTROY_V2 = 0x5000943f;
const SUBVOL_GETFLAGS = 0x80089419;
const SUBVOL_SETFLAGS = 0x4008941a;
const GET_SUBVOL_INFO = 0x81f8943c;
const SYNC = 0x9408;

const SUBVOL_RDONLY = 2;
const SUBVOL_SPEC_BY_ID = 16;
/** struct btrfs_ioctl_vol_args_v2 */
const [argsBytes, flagsAt, nameAt] = [4096, 16, 56];

/** The inode number of the top of every subvolume (BTRFS_FIRST_FREE_OBJECTID). */
const topInode = 256;

export interface Subvolume {
  readonly id: number;
  /** The transaction in which a file of it was changed last. */
  readonly changed: number;
}

/** Makes an empty one, its top 0755 less the umask. */
export async function createSubvolume(directory: number, name: string): Promise<void> {
  await btrfs(directory, SUBVOL_CREATE_V2, namedArgs(name), `make the subvolume ${name}`);
}

/**
 * Makes a copy that shares everything; of subvolumes within only an empty directory is in it. Atomic: it has what
 * was on its way to the disk as well (dirty pages are flushed first), and a transaction is committed, so that it
 * outlives a power cut at once. Of two writes that were not flushed in between it may have the later one alone.
 * @param source an open directory of the subvolume
 */
export async function snapshotSubvolume(
  source: number,
  directory: number,
  name: string,
  options: { readonly readonly: boolean },
): Promise<void> {
  const args = namedArgs(name);
  writeU64(args, source, 0);
  if (options.readonly) writeU64(args, SUBVOL_RDONLY, flagsAt);
  await btrfs(directory, SNAP_CREATE_V2, args, `make the snapshot ${name}`);
}

function namedArgs(name: string): Buffer {
  const args = Buffer.alloc(argsBytes);
  args.write(name, nameAt);
  return args;
}

/**
 * Writes everything of the file system out. Data that cannot be written is not told here, so that syncfs(2), which
 * tells it once, still does (kernel, fs/btrfs/ioctl.c: BTRFS_IOC_SYNC).
 */
export async function flush(fd: number): Promise<void> {
  await btrfs(fd, SYNC, Buffer.alloc(0), 'flush the btrfs file system');
}

/** Deletes a subvolume that has no other within. @param fd any open file of the file system */
export async function destroySubvolume(fd: number, id: number): Promise<void> {
  const args = Buffer.alloc(argsBytes);
  writeU64(args, SUBVOL_SPEC_BY_ID, flagsAt);
  writeU64(args, id, nameAt);
  await btrfs(fd, SNAP_DESTROY_V2, args, `delete subvolume ${id}`);
}

/** Forbids every change, also to who has it mounted. @param fd its open top */
export async function makeReadonly(fd: number): Promise<void> {
  const flags = Buffer.alloc(8);
  await btrfs(fd, SUBVOL_GETFLAGS, flags, 'read the flags of a subvolume');
  const value = readU64(flags, 0);
  if ((value & SUBVOL_RDONLY) !== 0) return;
  writeU64(flags, value | SUBVOL_RDONLY, 0);
  await btrfs(fd, SUBVOL_SETFLAGS, flags, 'make a subvolume read-only');
}

/** The subvolume that holds an open file. */
export async function subvolumeOf(fd: number): Promise<Subvolume> {
  const info = Buffer.alloc(504);
  await btrfs(fd, GET_SUBVOL_INFO, info, 'look at a subvolume');
  return { id: readU64(info, 0), changed: readU64(info, 0x158) };
}

/** Whether an open directory of a btrfs file system is the top of a subvolume. */
export async function isSubvolume(fd: number): Promise<boolean> {
  return (await stat(descriptorPath(fd))).ino === topInode;
}

export interface NestedSubvolume {
  readonly id: number;
  /** The name of the directory that it stands at. */
  readonly name: string;
}

/**
 * The subvolumes that were made somewhere within another one, each after those within itself. Found in the tree of
 * trees, so that no path is walked. @param fd any open file of the file system
 */
export async function nestedSubvolumes(fd: number, id: number): Promise<readonly NestedSubvolume[]> {
  const ROOT_TREE = 1;
  const ROOT_REF = 156;
  const rootRefBytes = 18;
  const range = { tree: ROOT_TREE, firstObject: id, lastObject: id, firstType: ROOT_REF, lastType: ROOT_REF };
  const found: NestedSubvolume[] = [];
  for await (const { offset, data } of searchTree(fd, range)) {
    const nested = { id: Number(offset), name: data.toString('utf8', rootRefBytes) };
    found.push(...(await nestedSubvolumes(fd, nested.id)), nested);
  }
  return found;
}
