import { mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { OverlayUse } from '../../../core/layers/overlay-mounts.ts';
import { messageOf, Unimplemented } from '../../../errors/errors.ts';
import { fromNodeError } from '../../../errors/from-errno.ts';
import { detach, viewPrefix } from '../../../host/linux/overlay.ts';
import type { Archiver } from '../archive/archiver.ts';
import { deleteDirectory } from '../delete-directory.ts';
import { OverlayDriver } from './overlay-driver.ts';
import { probeOverlay } from './probe.ts';
import { emptyDirectory, OverlayStacks } from './stacks.ts';

/**
 * Opens the driver `overlay` for a root that exists, after it has tried there what it needs.
 * @param use for image layers an upper directory is the difference as OCI has it; for volumes it keeps hard links and
 * renamed directories, and cannot be mounted twice
 * @throws Unimplemented with the reason
 */
export async function openOverlayDriver(
  root: string,
  archiver: Archiver,
  use: OverlayUse = 'images',
): Promise<OverlayDriver> {
  await removeOldViews(root);
  const probe = join(root, 'new-probe');
  await deleteDirectory(probe);
  try {
    await mkdir(probe, 0o700);
    const userxattr = await probeOverlay(probe, use);
    await mkdir(emptyDirectory(root), { recursive: true });
    return new OverlayDriver({
      name: 'overlay',
      root,
      archiver,
      stacks: new OverlayStacks({ root, use, userxattr }),
      prefix: userxattr ? 'user.overlay.' : 'trusted.overlay.',
      redirects: use === 'volumes',
    });
  } catch (error) {
    throw new Unimplemented(
      `the layer driver overlay cannot work on ${root}: ${messageOf(error)}; use a local file system such as ext4, xfs or btrfs, or another driver`,
      { cause: error },
    );
  } finally {
    await deleteDirectory(probe);
  }
}

/** What a crash left on a kernel that can only mount views for a moment. */
export async function removeOldViews(root: string): Promise<void> {
  const names = await readdir(root).catch((error: unknown) => {
    throw fromNodeError(error, `read ${root}`);
  });
  for (const name of names.filter(candidate => candidate.startsWith(viewPrefix))) {
    await detach(join(root, name));
    await rmdir(join(root, name));
  }
}
