/**
 * Quota groups of btrfs. Every subvolume has one of its own, whose "exclusive" bytes are those that nobody else
 * shares, metadata included: what the subvolume was a snapshot of does not count, nor, from then on, what a
 * snapshot was made of.
 */
import { NotFound } from '../../errors/errors.ts';
import { fromErrno } from '../../errors/from-errno.ts';
import { btrfs, readU64, tryBtrfs, writeU64 } from './btrfs-ioctl.ts';
import { searchTree } from './btrfs-search.ts';

const QUOTA_CTL = 0xc0109428;
const QUOTA_RESCAN = 0x4040942c;
const QGROUP_LIMIT = 0x8030942b;
const QGROUP_CREATE = 0x4010942a;
const START_SYNC = 0x80089418;
const WAIT_SYNC = 0x40089416;

/**
 * `simple` (Linux 6.7): whoever wrote data is charged for it as long as anybody holds it. `counting`: what is there
 * already is being added up, and limits are not kept yet.
 */
export type QuotaState = 'off' | 'simple' | 'stale' | 'counting' | 'on';

/** @param fd any open file of the file system, as everywhere here */
export async function quotaState(fd: number): Promise<QuotaState> {
  const QUOTA_TREE = 8;
  const STATUS = 240;
  const range = { tree: QUOTA_TREE, firstObject: 0, lastObject: 0, firstType: STATUS, lastType: STATUS };
  try {
    for await (const { data } of searchTree(fd, range)) return stateOf(readU64(data, 16));
  } catch (error) {
    // Without quotas there is no such tree.
    if (!(error instanceof NotFound)) throw error;
  }
  return 'off';
}

/** @param flags of struct btrfs_qgroup_status_item */
function stateOf(flags: number): QuotaState {
  const [ON, RESCAN, INCONSISTENT, SIMPLE] = [1, 2, 4, 8];
  if ((flags & ON) === 0) return 'off';
  if ((flags & SIMPLE) !== 0) return 'simple';
  if ((flags & RESCAN) !== 0) return 'counting';
  return (flags & INCONSISTENT) === 0 ? 'on' : 'stale';
}

/** Turns quotas on for the whole file system; the kernel begins to count what is there. */
export async function enableQuotas(fd: number): Promise<void> {
  const ENABLE = 1;
  const args = Buffer.alloc(16);
  writeU64(args, ENABLE, 0);
  await btrfs(fd, QUOTA_CTL, args, 'turn on the quotas of the btrfs file system');
}

/** Has everything counted anew; that it is being done already is fine. */
export async function recount(fd: number): Promise<void> {
  const EINPROGRESS = 115;
  const errno = await tryBtrfs(fd, QUOTA_RESCAN, Buffer.alloc(64));
  if (errno !== 0 && errno !== EINPROGRESS)
    throw fromErrno(errno, 'count the quotas of the btrfs file system');
}

/**
 * Sets the most bytes that a subvolume may have for itself; writing more ends in EDQUOT. What is deleted gives room
 * when the file system commits next, after 30 s or a sync. The transaction is committed here: no fsync(2) of a file
 * or directory brings a limit to the disk.
 */
export async function limitExclusive(fd: number, subvolume: number, bytes: number): Promise<void> {
  const MAX_EXCL = 2;
  const args = Buffer.alloc(48);
  writeU64(args, subvolume, 0);
  writeU64(args, MAX_EXCL, 8);
  writeU64(args, bytes, 24);
  await btrfs(fd, QGROUP_LIMIT, args, `limit subvolume ${subvolume}`);
  const transaction = Buffer.alloc(8);
  await btrfs(fd, START_SYNC, transaction, `commit the limit of subvolume ${subvolume}`);
  await btrfs(fd, WAIT_SYNC, transaction, `commit the limit of subvolume ${subvolume}`);
}

/** Ends the limit of a subvolume, which the kernel would give to each snapshot of it too (kernel, btrfs_qgroup_inherit). */
export async function removeLimit(fd: number, subvolume: number): Promise<void> {
  const [ENOENT, ENOTCONN] = [2, 107];
  const [MAX_EXCL, none] = [2n, 0xffff_ffff_ffff_ffffn];
  const args = Buffer.alloc(48);
  writeU64(args, subvolume, 0);
  args.writeBigUInt64LE(MAX_EXCL, 8);
  args.writeBigUInt64LE(none, 24);
  const errno = await tryBtrfs(fd, QGROUP_LIMIT, args);
  // It has no group, or there are no quotas at all.
  if (![0, ENOENT, ENOTCONN].includes(errno))
    throw fromErrno(errno, `end the limit of subvolume ${subvolume}`);
}

/**
 * Removes the group of a deleted subvolume. Newer kernels refuse as long as they delete its files in the background,
 * and do it themselves afterwards.
 */
export async function removeQuotaGroup(fd: number, subvolume: number): Promise<void> {
  const [ENOENT, EBUSY, EINVAL, ENOTCONN] = [2, 16, 22, 107];
  const args = Buffer.alloc(16);
  writeU64(args, subvolume, 8);
  const errno = await tryBtrfs(fd, QGROUP_CREATE, args);
  // There is none, or no quotas at all.
  if ([0, ENOENT, EBUSY, EINVAL, ENOTCONN].includes(errno)) return;
  throw fromErrno(errno, `remove the quota of subvolume ${subvolume}`);
}
