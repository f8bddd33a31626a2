import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, Unimplemented } from '../../../errors/errors.ts';
import {
  createSubvolume,
  nestedSubvolumes,
  snapshotSubvolume,
  subvolumeOf,
} from '../../../host/linux/btrfs-subvolumes.ts';
import { closing } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';
import { BtrfsDriver } from './btrfs-driver.ts';
import { deleteLayer } from './delete.ts';

/**
 * Opens the driver `btrfs` for a root that exists, after it has made, searched and deleted a subvolume there.
 * @throws Unimplemented
 */
export async function openBtrfsDriver(root: string): Promise<BtrfsDriver> {
  const probe = join(root, 'new-probe');
  await deleteLayer(probe);
  try {
    await trySubvolumes(probe);
  } catch (error) {
    throw new Unimplemented(
      `the layer driver btrfs cannot work on ${root}: ${messageOf(error)}; use a btrfs file system and run varve as root, or use the driver overlay or copy`,
      { cause: error },
    );
  } finally {
    await deleteLayer(probe);
  }
  return new BtrfsDriver(root);
}

async function trySubvolumes(probe: string): Promise<void> {
  await mkdir(probe, 0o700);
  const directory = await openDirectoryView(probe);
  await closing([directory], async () => {
    await createSubvolume(directory.fd, 'fs');
    const tree = await openDirectoryView(join(probe, 'fs'));
    await closing([tree], async () => {
      // Inside the other one, so that deleting a family is tried as well.
      await snapshotSubvolume(tree.fd, tree.fd, 'snapshot', { readonly: true });
      await nestedSubvolumes(tree.fd, (await subvolumeOf(tree.fd)).id);
    });
  });
}
