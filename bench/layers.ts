/**
 * The layer store beside containerd, dockerd, GNU tar and cp. Snapshots and clones are made on the real disk, all else on
 * new file systems in files on it.
 */
import type { Row } from './compare.ts';
import { benchApply } from './layers-apply.ts';
import { benchChanges } from './layers-changes.ts';
import { benchClone, benchSnapshots } from './layers-snapshots.ts';
import { onNewDisk, onRealDisk } from './layers-store.ts';

/** All rows. @param scale less than 1 to try the bench itself */
export async function benchLayers(scale = 1): Promise<Row[]> {
  const mebibytes = Math.round(1024 * scale);
  return [
    ...(await onNewDisk('ext4', 40, directory => benchApply(directory, scale))),
    ...(await onNewDisk('ext4', 20, directory => benchChanges(directory, scale))),
    ...(await onRealDisk(directory => benchSnapshots(directory, 'overlay', 10))),
    ...(await onNewDisk('btrfs', 20, directory => benchSnapshots(directory, 'btrfs', 10))),
    await onRealDisk(directory => benchClone(directory, 'overlay', mebibytes)),
    await onNewDisk('btrfs', 20, directory => benchClone(directory, 'btrfs', mebibytes)),
    await onRealDisk(directory => benchClone(directory, 'copy', mebibytes)),
  ];
}
