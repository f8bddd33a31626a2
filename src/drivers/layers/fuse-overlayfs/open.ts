import { lstat, mkdir, readFile, rmdir, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Internal, messageOf, Unimplemented } from '../../../errors/errors.ts';
import { mountFuseOverlay } from '../../../host/linux/fuse-overlayfs.ts';
import { LinuxMounter } from '../../../host/linux/mounter.ts';
import { getXattr } from '../../../host/linux/xattr-calls.ts';
import type { Archiver } from '../archive/archiver.ts';
import { closing } from '../comparison.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { openDirectoryView } from '../directory-view.ts';
import { removeOldViews } from '../overlay/open.ts';
import { OverlayDriver } from '../overlay/overlay-driver.ts';
import { FuseStacks, unionOf } from './fuse-stacks.ts';

const prefix = 'trusted.overlay.';

/**
 * Opens the driver `fuse-overlayfs` for a root that exists, after it has tried there what it needs: layers in the form
 * of the kernel's overlayfs, shown by Debian's program of that name on hosts whose kernel has none.
 * @throws Unimplemented with the reason
 */
export async function openFuseOverlayfsDriver(root: string, archiver: Archiver): Promise<OverlayDriver> {
  await removeOldViews(root);
  const probe = join(root, 'new-probe');
  const mounter = new LinuxMounter();
  // A crash may have left it mounted.
  await mounter.unmount(join(probe, 'mnt'));
  await deleteDirectory(probe);
  try {
    await probeUnion(probe, mounter);
  } catch (error) {
    throw new Unimplemented(
      `the layer driver fuse-overlayfs cannot work on ${root}: ${messageOf(error)}; install fuse-overlayfs, load the module fuse, and run varve as root on a file system such as ext4, xfs or btrfs`,
      { cause: error },
    );
  } finally {
    await mounter.unmount(join(probe, 'mnt'));
    await deleteDirectory(probe);
  }
  const stacks = new FuseStacks(root);
  return new OverlayDriver({ name: 'fuse-overlayfs', root, archiver, stacks, prefix, redirects: false });
}

/** Deletes what is beneath, and looks whether it is noted as overlayfs does: others have to read it. */
async function probeUnion(probe: string, mounter: LinuxMounter): Promise<void> {
  const at = (name: string) => join(probe, name);
  await mkdir(probe, { mode: 0o700 });
  for (const name of ['mnt', 'work', 'upper', 'lower', 'lower/directory']) await mkdir(at(name));
  await writeFile(at('lower/file'), 'beneath');
  const upper = [`upperdir=${at('upper')}`, `workdir=${at('work')}`];
  await mountFuseOverlay(unionOf([at('lower')], upper), at('mnt'));
  if ((await readFile(at('mnt/file'), 'utf8')) !== 'beneath') throw new Internal('it does not show a file');
  await unlink(at('mnt/file'));
  await rmdir(at('mnt/directory'));
  await mkdir(at('mnt/directory'));
  await mounter.unmount(at('mnt'));
  const { rdev, mode } = await lstat(at('upper/file'));
  const isWhiteout = (mode & 0o170000) === 0o020000 && rdev === 0;
  if (!isWhiteout) throw new Unimplemented('it does not note a deleted file with a device 0/0');
  const directory = await openDirectoryView(at('upper/directory'));
  await closing([directory], async () => {
    if (String(getXattr(directory.fd, `${prefix}opaque`)) !== 'y')
      throw new Unimplemented(`it does not note a replaced directory with ${prefix}opaque`);
  });
}
