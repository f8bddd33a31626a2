import { lstat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorCode, fromNodeError } from '../../../errors/from-errno.ts';
import { removeQuotaGroup } from '../../../host/linux/btrfs-quota.ts';
import {
  destroySubvolume,
  isSubvolume,
  nestedSubvolumes,
  subvolumeOf,
} from '../../../host/linux/btrfs-subvolumes.ts';
import { refuseMountsBelow } from '../../../host/linux/remove-tree.ts';
import { step } from '../../../lib/fault.ts';
import { closing } from '../comparison.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { openDirectoryView } from '../directory-view.ts';

/**
 * Deletes a layer's directory with its subvolume, and with the subvolumes that a container made in that (an engine
 * inside an engine does). The kernel frees the space in the background. @throws FailedPrecondition when something is
 * mounted in it
 */
export async function deleteLayer(directory: string): Promise<void> {
  refuseMountsBelow(directory);
  const subvolumes = await subvolumesIn(join(directory, 'fs'));
  if (subvolumes.length > 0) {
    const parent = await openDirectoryView(dirname(directory));
    await closing([parent], async () => {
      for (const id of subvolumes) {
        await step('layer.destroy-subvolume', () => destroySubvolume(parent.fd, id));
        await removeQuotaGroup(parent.fd, id);
      }
    });
  }
  await deleteDirectory(directory);
}

/** The subvolume at a path, if there is one, and before it those within, innermost first. */
async function subvolumesIn(path: string): Promise<readonly number[]> {
  const there = await lstat(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw fromNodeError(error, `look at ${path}`);
  });
  if (!there?.isDirectory()) return [];
  const tree = await openDirectoryView(path);
  return await closing([tree], async () => {
    if (!(await isSubvolume(tree.fd))) return [];
    const { id } = await subvolumeOf(tree.fd);
    return [...(await nestedSubvolumes(tree.fd, id)).map(nested => nested.id), id];
  });
}
