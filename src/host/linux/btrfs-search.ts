import { btrfs } from './btrfs-ioctl.ts';

/** Which items of a tree are wanted: those whose key lies between two others (kernel, struct btrfs_ioctl_search_key). */
export interface SearchRange {
  /** 1: the tree of all trees, 8: that of the quotas; 0: the one of the subvolume that holds the open file. */
  readonly tree: number;
  readonly firstObject: number;
  /** Without it: all that follow. */
  readonly lastObject?: number;
  readonly firstType: number;
  readonly lastType: number;
  /** Leaves that are older than this transaction are passed over; the others are returned whole. */
  readonly since?: number;
}

export interface TreeItem {
  readonly object: number;
  readonly type: number;
  readonly offset: bigint;
  /** Valid until the next item is asked for. */
  readonly data: Buffer;
}

const TREE_SEARCH_V2 = 0xc0709411;
const keyBytes = 112;
const headerBytes = 32;
/** What one call can return: enough for an item of any size, and parsed in about a millisecond. */
const bufferBytes = 128 * 1024;
const everything = 0xffff_ffff_ffff_ffffn;

/**
 * The items of a tree in the order of their keys, as the running transaction has them; what was written to files
 * and not flushed is not there yet. Needs CAP_SYS_ADMIN.
 */
export async function* searchTree(fd: number, range: SearchRange): AsyncGenerator<TreeItem> {
  const buffer = Buffer.alloc(keyBytes + bufferBytes);
  let next: Key | undefined = { object: BigInt(range.firstObject), type: range.firstType, offset: 0n };
  while (next !== undefined) {
    writeRequest(buffer, range, next);
    await btrfs(fd, TREE_SEARCH_V2, buffer, 'search the trees of the btrfs file system');
    const count = buffer.readUInt32LE(64);
    if (count === 0) return;
    let at = keyBytes;
    for (let index = 0; index < count; index += 1) {
      const data = at + headerBytes;
      const length = buffer.readUInt32LE(at + 28);
      next = readKey(buffer, at);
      yield {
        object: Number(next.object),
        type: next.type,
        offset: next.offset,
        data: buffer.subarray(data, data + length),
      };
      at = data + length;
    }
    next = following(next);
  }
}

interface Key {
  readonly object: bigint;
  readonly type: number;
  readonly offset: bigint;
}

function writeRequest(buffer: Buffer, range: SearchRange, from: Key): void {
  buffer.fill(0, 0, keyBytes);
  buffer.writeBigUInt64LE(BigInt(range.tree), 0);
  buffer.writeBigUInt64LE(from.object, 8);
  buffer.writeBigUInt64LE(range.lastObject === undefined ? everything : BigInt(range.lastObject), 16);
  buffer.writeBigUInt64LE(from.offset, 24);
  buffer.writeBigUInt64LE(everything, 32);
  buffer.writeBigUInt64LE(BigInt(range.since ?? 0), 40);
  buffer.writeBigUInt64LE(everything, 48);
  buffer.writeUInt32LE(from.type, 56);
  buffer.writeUInt32LE(range.lastType, 60);
  buffer.writeUInt32LE(0xffff_ffff, 64);
  buffer.writeBigUInt64LE(BigInt(bufferBytes), 104);
}

function readKey(buffer: Buffer, at: number): Key {
  return {
    object: buffer.readBigUInt64LE(at + 8),
    offset: buffer.readBigUInt64LE(at + 16),
    type: buffer.readUInt32LE(at + 24),
  };
}

/** The smallest key behind another: offset, type and object count up like the digits of one number. */
function following({ object, type, offset }: Key): Key | undefined {
  if (offset !== everything) return { object, type, offset: offset + 1n };
  if (type !== 255) return { object, type: type + 1, offset: 0n };
  return object === everything ? undefined : { object: object + 1n, type: 0, offset: 0n };
}
