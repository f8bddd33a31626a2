/**
 * The layer store beside containerd, dockerd, GNU tar and cp. Snapshots and clones are made on the real disk, all else on
 * new file systems in files on it.
 */
import type { Row } from './compare.ts';
import { benchApply } from './layers-apply.ts';
import { benchChanges } from './layers-changes.ts';
import { benchClone, benchSnapshots } from './layers-snapshots.ts';
import { onNewDisk, onRealDisk } from './layers-store.ts';

const mebibytes = 1024;

/** Each by its name. */
export const layerBenches: Readonly<Record<string, () => AsyncGenerator<Row>>> = {
  async *'layers-apply'() {
    yield* await onNewDisk('ext4', 40, benchApply);
  },
  async *'layers-changes'() {
    yield* await onNewDisk('ext4', 20, benchChanges);
  },
  async *'layers-snapshots'() {
    yield* await onRealDisk(directory => benchSnapshots(directory, 'overlay', 10));
    yield* await onNewDisk('btrfs', 20, directory => benchSnapshots(directory, 'btrfs', 10));
  },
  async *'layers-clones'() {
    yield await onRealDisk(directory => benchClone(directory, 'overlay', mebibytes));
    yield await onNewDisk('btrfs', 20, directory => benchClone(directory, 'btrfs', mebibytes));
    yield await onRealDisk(directory => benchClone(directory, 'copy', mebibytes));
  },
};
