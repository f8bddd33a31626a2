import { close as closeCallback, constants, open as openCallback } from 'node:fs';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { OverlaySource } from '../../core/mount.ts';
import { fromNodeError } from '../../errors/from-errno.ts';
import { endServer, startFuseServer } from './fuse-overlayfs.ts';
import { detach, viewPrefix } from './overlay.ts';

const [openFile, closeFile] = [promisify(openCallback), promisify(closeCallback)];

/** setpriv(1) becomes the program, which the kernel then ends with this process (PR_SET_PDEATHSIG(2const)). */
const boundToUs = ['setpriv', '--pdeathsig', 'KILL', 'fuse-overlayfs'];

/**
 * Opens a union for reading that is mounted nowhere; it ends with the descriptor or with this process. FUSE needs a
 * mount point to begin with: a crash at that moment leaves a directory named with {@link viewPrefix}, mounted.
 * @param root a directory of ours
 */
export async function openFuseView(
  source: OverlaySource,
  root: string,
): Promise<{ readonly fd: number; close(): Promise<void> }> {
  const point = await mkdtemp(join(root, viewPrefix)).catch(error => {
    throw fromNodeError(error, `make a mount point in ${root}`);
  });
  try {
    const server = await startFuseServer(boundToUs, source, point);
    const fd = await openFile(point, constants.O_RDONLY | constants.O_DIRECTORY).catch(async error => {
      await endServer(server);
      throw fromNodeError(error, `open the union on ${point}`);
    });
    const close = async () => {
      await closeFile(fd);
      await endServer(server);
    };
    return { fd, close };
  } finally {
    await detach(point);
    await rmdir(point);
  }
}
