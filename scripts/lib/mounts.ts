import { FailedPrecondition } from '../../src/errors/errors.ts';
import { isWithin, parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { run } from './process.ts';
import { until } from './wait.ts';

/** The mount points of this mount namespace, oldest first. */
export function mountPoints(): readonly string[] {
  return parseMountinfo(readMountinfo('self')).map(entry => entry.mountPoint);
}

/** The mounts on a directory and below it, the newest first: the order in which they can be taken away. */
export function mountsBelow(directory: string): readonly string[] {
  return mountPoints()
    .filter(point => isWithin(point, directory))
    .reverse();
}

/**
 * Unmounts everything on a directory and below it. A container that starts elsewhere copies the mount namespace,
 * and until it has made its copy private the kernel says that a shared mount is busy.
 * @throws FailedPrecondition that names what stays
 */
export async function unmountBelow(directory: string): Promise<void> {
  let reason = '';
  const tryAll = async (): Promise<boolean> => {
    for (const point of mountsBelow(directory)) {
      const result = await run('umount', [point]);
      if (result.exitCode !== 0) reason = result.stderr.trim();
    }
    return mountsBelow(directory).length === 0;
  };
  await until('nothing to be mounted', 5_000, tryAll).catch(() => {
    const left = mountsBelow(directory).join(', ');
    throw new FailedPrecondition(`still mounted: ${left} (${reason}); end what uses it, then repeat`);
  });
}
