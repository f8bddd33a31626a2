import type { Usage } from '../../core/ports.ts';
import { Aborted } from '../../errors/errors.ts';
import { readU64 } from './btrfs-ioctl.ts';
import { searchTree } from './btrfs-search.ts';
import { nestedSubvolumes, subvolumeOf } from './btrfs-subvolumes.ts';

/**
 * What a subvolume, and those within, hold that is younger than a transaction: extents as they are on the disk,
 * compressed, each once and whole also when only a part of it is still used; small files that stand in the metadata
 * with their length; inodes that were made since. Visits only the leaves that changed since then. What was not
 * flushed is missing. Data that was moved (defragmentation, deduplication) or cloned since counts as new.
 * @param fd an open directory of the subvolume @throws Aborted when the signal fires
 */
export async function usageSince(fd: number, transaction: number, signal?: AbortSignal): Promise<Usage> {
  const { id } = await subvolumeOf(fd);
  const sum = new Sum();
  await addTree(sum, fd, id, transaction, signal);
  for (const nested of await nestedSubvolumes(fd, id)) await addTree(sum, fd, nested.id, 0, signal);
  return { bytes: sum.bytes, inodes: sum.inodes };
}

const INODE_ITEM = 1;
const EXTENT_DATA = 108;
const firstInode = 256;

async function addTree(
  sum: Sum,
  fd: number,
  tree: number,
  transaction: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const range = { tree, firstObject: firstInode, firstType: 0, lastType: 255, since: transaction + 1 };
  for await (const { type, data } of searchTree(fd, range)) {
    if (signal?.aborted) throw new Aborted('the measurement was cancelled');
    // Both items begin with the transaction in which the inode, or the extent, was made.
    if (type !== INODE_ITEM && type !== EXTENT_DATA) continue;
    if (readU64(data, 0) <= transaction) continue;
    if (type === INODE_ITEM) sum.inodes += 1;
    else sum.addExtent(data);
  }
}

class Sum {
  bytes = 0;
  inodes = 0;
  readonly #counted = new Set<number>();

  /** @param item struct btrfs_file_extent_item, packed */
  addExtent(item: Buffer): void {
    const [typeAt, headerBytes, inline] = [20, 21, 0];
    if (item[typeAt] === inline) {
      this.bytes += item.length - headerBytes;
      return;
    }
    const [address, length] = [readU64(item, headerBytes), readU64(item, headerBytes + 8)];
    const hole = 0;
    if (address === hole || this.#counted.has(address)) return;
    this.#counted.add(address);
    this.bytes += length;
  }
}
