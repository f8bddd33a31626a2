/** Overlays of this process's mount namespace, and such as are in none. */
import { close as closeCallback, constants, open as openCallback } from 'node:fs';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MountEntry, OverlaySource } from '../../core/mount.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { attach, makeOverlay, mountOverlayAt } from './overlay-calls.ts';
import { parseOverlay, showsTheSame } from './overlay-options.ts';
import { descriptorPath } from './safe-path.ts';
import { call, cString, libc, must } from './system-calls.ts';

const cUmount2 = libc.func('int umount2(void *target, int flags)');
const openFile = promisify(openCallback);
const closeFile = promisify(closeCallback);
const readDirectory = constants.O_RDONLY | constants.O_DIRECTORY;

/** What a directory for {@link openOverlayViewAt} is named: a crash may leave it, mounted. */
export const viewPrefix = 'new-view-';

/** @throws FailedPrecondition when this kernel cannot mount so many layers */
export async function mountOverlay({ options }: OverlaySource, target: string): Promise<void> {
  const mount = await makeOverlay(options);
  if (mount === undefined) return await mountOverlayAt(options, target);
  await attach(mount, target).finally(() => closeFile(mount));
}

/** Whether a line of the mount table shows this overlay. */
export function isOverlay({ options }: OverlaySource, entry: MountEntry): boolean {
  return entry.fsType === 'overlay' && showsTheSame(parseOverlay(options), parseOverlay(entry.superOptions));
}

/**
 * Opens the root of an overlay that is mounted nowhere: it ends when the descriptor is closed, at the latest with
 * this process.
 * @param root a directory of ours, where old kernels need a mount point for a moment
 */
export async function openOverlayView(options: readonly string[], root: string): Promise<number> {
  const mount = await makeOverlay(options);
  if (mount === undefined) return await openOverlayViewAt(options, root);
  return await openRoot(descriptorPath(mount)).finally(() => closeFile(mount));
}

/** The same by mount(2): the mount is taken away as soon as its root is open. */
export async function openOverlayViewAt(options: readonly string[], root: string): Promise<number> {
  const point = await mkdtemp(join(root, viewPrefix)).catch(error => {
    throw fromNodeError(error, `make a mount point in ${root}`);
  });
  try {
    await mountOverlayAt(options, point);
    return await openRoot(point).finally(() => detach(point));
  } finally {
    await rmdir(point);
  }
}

/** umount2(2) of what may still be open; a directory on which nothing is mounted is fine. */
export async function detach(target: string): Promise<void> {
  const [MNT_DETACH, UMOUNT_NOFOLLOW, EINVAL] = [2, 8, 22];
  const answer = await call(cUmount2, cString(target), MNT_DETACH | UMOUNT_NOFOLLOW);
  if (answer.errno !== EINVAL) must(answer, `unmount ${target}`);
}

async function openRoot(path: string): Promise<number> {
  try {
    return await openFile(join(path, '.'), readDirectory);
  } catch (error) {
    throw fromNodeError(error, `open ${path}`);
  }
}
