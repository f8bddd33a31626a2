import { close as closeCallback, constants } from 'node:fs';
import { mkdir, rmdir, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type OverlayUse, overlaySource } from '../../../core/layers/overlay-mounts.ts';
import { parseLayerNumber } from '../../../core/names.ts';
import { Unimplemented } from '../../../errors/errors.ts';
import { reportsTypes } from '../../../host/linux/directory-entries.ts';
import { mknodat } from '../../../host/linux/file-calls.ts';
import { check } from '../../../host/linux/native.ts';
import { openOverlayView } from '../../../host/linux/overlay.ts';
import { descriptorPath } from '../../../host/linux/safe-path.ts';
import { getXattr, setXattr } from '../../../host/linux/xattr-calls.ts';
import { closing } from '../comparison.ts';
import { openDirectoryView } from '../directory-view.ts';
import { makeLink } from './links.ts';

const closeFile = promisify(closeCallback);
const [lower, upper] = [parseLayerNumber(1), parseLayerNumber(2)];

/**
 * Tries what the driver does, in an empty directory.
 * @returns whether the union's attributes have to be `user.overlay.*`: only root of the host may set `trusted.*`
 * @throws when something does not work
 */
export async function probeOverlay(root: string, use: OverlayUse): Promise<boolean> {
  await mkdir(join(root, '1/fs/directory'), { recursive: true });
  await mkdir(join(root, '2/fs'), { recursive: true });
  await mkdir(join(root, '2/work'));
  await writeFile(join(root, '1/fs/directory/file'), 'x');
  await makeLink(root, lower);
  const userxattr = await needsUserAttributes(join(root, '1/fs'));
  if (userxattr && use === 'volumes') {
    throw new Unimplemented(
      'volumes on overlay need the right to set trusted.* attributes; run varve as root of the host',
    );
  }
  const plan = { root, kind: 'active', use, userxattr, home: join(root, '2'), apart: false } as const;
  const source = overlaySource([upper, lower], plan);
  if (source.type !== 'overlay') return userxattr;
  const fd = await openOverlayView(source.options, root);
  try {
    await changeThrough(descriptorPath(fd));
  } finally {
    await closeFile(fd);
  }
  await requireDelta(join(root, '2/fs'), userxattr ? 'user.overlay.' : 'trusted.overlay.');
  return userxattr;
}

async function needsUserAttributes(directory: string): Promise<boolean> {
  const [EPERM, yes] = [1, Buffer.from('y')];
  const view = await openDirectoryView(directory);
  return await closing([view], async () => {
    const result = setXattr(view.fd, 'trusted.varve', yes);
    if (result !== -EPERM) check(result, 'set a trusted.* attribute');
    else check(setXattr(view.fd, 'user.varve', yes), 'set a user.* attribute');
    return result === -EPERM;
  });
}

/** Replaces a directory by another of the same name, and deletes the only entry of that. */
async function changeThrough(path: string): Promise<void> {
  await unlink(join(path, 'directory/file'));
  await rmdir(join(path, 'directory'));
  await mkdir(join(path, 'directory'));
  await writeFile(join(path, 'file'), 'x');
  await unlink(join(path, 'file'));
}

async function requireDelta(path: string, prefix: string): Promise<void> {
  const view = await openDirectoryView(path);
  await closing([view], async () => {
    if (!reportsTypes(view.fd)) {
      throw new Unimplemented(
        'its directories do not tell the types of their entries (xfs: make it with -n ftype=1)',
      );
    }
    const opaque = getXattr([view.fd, Buffer.from('directory')], `${prefix}opaque`);
    if (typeof opaque === 'number') check(opaque, 'read the attribute of an opaque directory');
    // As archives make them; the kernel itself may have other rights.
    const result = mknodat(view.fd, Buffer.from('whiteout'), constants.S_IFCHR, { major: 0, minor: 0 });
    check(result, 'make a whiteout');
  });
}
