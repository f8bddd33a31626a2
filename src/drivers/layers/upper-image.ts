/**
 * A writable layer with a limit, on file systems that know no quota of a directory: an ext4 file system in the
 * sparse file `DIRECTORY/upper.img`, mounted on `DIRECTORY/upper`.
 *
 * At most `bytes` can be written, and at least 98 % of that; of `inodes` at most as many, and at least that less 16
 * for each 128 MiB. What the files need besides their data (directories, large attributes) counts, as in du(1).
 * When the disk below is full, writers get EIO, and ext4 becomes read-only.
 */
import { mkdir, open, rmdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Limit } from '../../core/layers/layer-store.ts';
import { Internal, InvalidArgument, NotFound, Unimplemented } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';
import { mountFileSystem } from '../../host/linux/file-system.ts';
import { attachLoop } from '../../host/linux/loop.ts';
import { LinuxMounter } from '../../host/linux/mounter.ts';
import { detach } from '../../host/linux/overlay.ts';
import { run } from '../../host/linux/run.ts';
import { identify, must } from '../../host/linux/system-calls.ts';
import { step } from '../../lib/fault.ts';

const mebibyte = 1024 * 1024;
const block = 4096;
const groupBytes = 32768 * block;
const inodeBytes = 256;
/** Ten reserved ones and `lost+found`, then `fs` and `work`. */
const ownInodes = 13;
/** One for each so many bytes, as mke2fs.conf(5) has it, when no limit is asked for. */
const bytesPerInode = 16384;
/** mke2fs wants a journal of at least 4 MiB, and as much beside it. */
const smallest = 8 * mebibyte;
const formatTimeout = 60_000;

/** Where the files of a writable layer stand: in its image, when it has one. */
export async function writableHome(directory: string): Promise<string> {
  return (await hasUpperImage(directory)) ? join(directory, 'upper') : directory;
}

export async function hasUpperImage(directory: string): Promise<boolean> {
  return await stat(imageOf(directory)).then(
    () => true,
    error => {
      if (errorCode(error) === 'ENOENT') return false;
      throw fromNodeError(error, `look at ${imageOf(directory)}`);
    },
  );
}

/**
 * Makes and mounts an empty image.
 * @throws InvalidArgument for a limit that is too small; Unimplemented without mkfs.ext4; AlreadyExists
 */
export async function makeUpperImage(directory: string, limit: Limit): Promise<void> {
  const image = imageOf(directory);
  const { size, inodes, journal } = layoutOf(limit);
  await step('upper-image.format', async () => {
    await makeSparseFile(image, size);
    await format(image, inodes, journal);
  });
  await attachUpperImage(directory);
}

/** Mounts the image of a layer, as after a reboot; mounted already is fine. @throws NotFound without an image */
export async function attachUpperImage(directory: string): Promise<void> {
  const upper = join(directory, 'upper');
  await mkdir(upper, { mode: 0o700 }).catch(error => {
    if (errorCode(error) !== 'EEXIST') throw fromNodeError(error, `make ${upper}`);
  });
  const answer = await identify(upper);
  must(answer, `look at ${upper}`);
  if (answer.file.mountRoot) return;
  const device = await attachLoop(imageOf(directory));
  try {
    // Inode tables that were never written read as zeros already; what is deleted is free on the disk below again.
    const options = ['noinit_itable', 'discard'];
    await step('upper-image.mount', () => mountFileSystem(device.path, upper, 'ext4', options));
  } finally {
    await device.close();
  }
}

/** Unmounts the image, which frees its loop device; not mounted is fine. @throws FailedPrecondition when it is busy */
export async function detachUpperImage(directory: string): Promise<void> {
  await step('upper-image.unmount', () => new LinuxMounter().unmount(join(directory, 'upper')));
}

/** Deletes the image with all that is in it; none is fine. @throws FailedPrecondition when it is busy */
export async function dropUpperImage(directory: string): Promise<void> {
  await detachUpperImage(directory);
  await deleteImage(directory);
}

/**
 * The same when all that is in it stands elsewhere: who still reads a file in it keeps that until it is closed.
 */
export async function retireUpperImage(directory: string): Promise<void> {
  await step('upper-image.detach', () => detach(join(directory, 'upper')).catch(unlessNotFound));
  await deleteImage(directory);
}

async function deleteImage(directory: string): Promise<void> {
  await step('upper-image.delete', async () => {
    await unlink(imageOf(directory)).catch(unlessMissing(`delete ${imageOf(directory)}`));
    await rmdir(join(directory, 'upper')).catch(unlessMissing(`delete ${join(directory, 'upper')}`));
  });
}

function unlessNotFound(error: unknown): void {
  if (!(error instanceof NotFound)) throw error;
}

function imageOf(directory: string): string {
  return join(directory, 'upper.img');
}

interface Layout {
  /** Length of the image, in bytes. */
  readonly size: number;
  readonly inodes: number;
  /** In MiB. */
  readonly journal: number;
}

/**
 * What ext4 takes for itself is added to the limit, but never more than it surely takes, so that what is left for
 * files stays at or below it: the journal, the inode tables, and the two percent, at most 16 MiB, that the kernel
 * holds back for its own metadata (kernel, fs/ext4/super.c: ext4_set_resv_clusters). The rest, bitmaps and copies of
 * the superblock, comes out of the limit.
 */
function layoutOf({ bytes, inodes: limit }: Limit): Layout {
  if (bytes < smallest) {
    throw new InvalidArgument(`a limit of ${bytes} bytes is too small; ${smallest} is the smallest`);
  }
  const journal = Math.max(4, Math.min(32, Math.floor(bytes / 64 / mebibyte)));
  const wanted = (limit ?? Math.ceil(bytes / bytesPerInode)) + ownInodes;
  const needed = bytes + journal * mebibyte + wanted * inodeBytes;
  const size = Math.floor((needed + Math.min(needed * 0.02, 16 * mebibyte)) / block) * block;
  return { size, inodes: inodesOf(wanted, size), journal };
}

/** Each group of blocks has as many inodes as the others, and these fill whole blocks: mkfs.ext4 would round up. */
function inodesOf(wanted: number, size: number): number {
  const groups = Math.ceil(size / groupBytes);
  const inBlock = block / inodeBytes;
  const inGroup = Math.floor(wanted / groups / inBlock) * inBlock;
  if (inGroup > 0) return inGroup * groups;
  const least = groups * inBlock - ownInodes;
  throw new InvalidArgument(
    `a limit of ${wanted - ownInodes} inodes is too small for a file system of that size; ${least} is the smallest`,
  );
}

async function makeSparseFile(path: string, size: number): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o600);
    await file.truncate(size).finally(() => file.close());
  } catch (error) {
    throw fromNodeError(error, `make ${path}`);
  }
}

/** The features are spelled out, so that the size of everything is the same whatever mke2fs.conf(5) says. */
const features = [
  ...[
    'none',
    'has_journal',
    'ext_attr',
    'dir_index',
    'filetype',
    'extent',
    '64bit',
    'flex_bg',
    'sparse_super',
  ],
  ...['large_file', 'huge_file', 'dir_nlink', 'extra_isize', 'metadata_csum'],
];

async function format(image: string, inodes: number, journal: number): Promise<void> {
  const sizes = [
    '-b',
    `${block}`,
    '-I',
    `${inodeBytes}`,
    '-N',
    `${inodes}`,
    '-J',
    `size=${journal}`,
    '-m',
    '0',
  ];
  const lazily = ['-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard'];
  const words = ['-q', '-F', '-O', features.join(','), ...sizes, ...lazily, image];
  const { code, stderr } = await run('mkfs.ext4', words, { timeout: formatTimeout }).catch(error => {
    if (!(error instanceof Unimplemented)) throw error;
    throw new Unimplemented('a limit needs mkfs.ext4, which is not installed; install the package e2fsprogs');
  });
  if (code !== 0) throw new Internal(`mkfs.ext4 failed on ${image}: ${stderr.trim()}`);
}

function unlessMissing(action: string): (error: unknown) => void {
  return error => {
    if (errorCode(error) !== 'ENOENT') throw fromNodeError(error, action);
  };
}
