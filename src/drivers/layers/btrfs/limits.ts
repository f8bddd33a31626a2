import { setTimeout as pause } from 'node:timers/promises';
import type { Limit } from '../../../core/layers/layer-store.ts';
import { Unavailable, Unimplemented } from '../../../errors/errors.ts';
import { enableQuotas, quotaState, recount } from '../../../host/linux/btrfs-quota.ts';
import { step } from '../../../lib/fault.ts';

/** Milliseconds that a request waits for the kernel to have counted what was there before the quotas. */
const longest = 5_000;
const pollEvery = 50;

/**
 * Makes the file system able to keep a limit.
 *
 * Quotas are of the file system as a whole: the first limit turns them on for everything on it, and nobody turns
 * them off, since others may rely on them. They are the full ones, also where the kernel has simple quotas: those
 * charge a layer for ever for what it has frozen, and they change the format of the file system so that Linux before
 * 6.7 (Debian 12) cannot mount it any more. Where an administrator has chosen them, limits are refused.
 *
 * @param fd an open directory of the file system
 * @throws Unimplemented, Unavailable while the kernel still counts
 */
export async function requireQuotas(fd: number, root: string, patience = longest): Promise<void> {
  for (const end = performance.now() + patience; performance.now() < end; await pause(pollEvery)) {
    const state = await quotaState(fd);
    if (state === 'on') return;
    if (state === 'simple') throw simpleQuotas(root);
    if (state === 'off') await step('layer.enable-quotas', () => enableQuotas(fd));
    // After the kernel has deleted a very large subvolume without counting (qgroups/drop_subtree_threshold in sysfs).
    if (state === 'stale') await recount(fd);
  }
  throw new Unavailable(
    `cannot limit a layer yet: the kernel still counts what is on the file system of ${root}; try again when \`btrfs quota rescan -s ${root}\` says that it is done`,
  );
}

/** @throws Unimplemented for a limit that btrfs does not know */
export function requireBytesOnly(limit: Limit): void {
  if (limit.inodes === undefined) return;
  throw new Unimplemented(
    'the layer driver btrfs cannot limit the number of inodes; limit the bytes only, or use the driver overlay',
  );
}

function simpleQuotas(root: string): Unimplemented {
  return new Unimplemented(
    `the layer driver btrfs cannot limit a layer on ${root}: its file system has simple quotas, which go on charging a layer for what it has frozen; turn them off (\`btrfs quota disable ${root}\`), and varve turns on full ones`,
  );
}
