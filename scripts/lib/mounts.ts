import { FailedPrecondition } from '../../src/errors/errors.ts';
import { isWithin, parseMountinfo, readMountinfo } from '../../src/host/linux/mountinfo.ts';
import { run } from './process.ts';

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

/** Unmounts everything on a directory and below it. @throws FailedPrecondition that names what stays */
export async function unmountBelow(directory: string): Promise<void> {
  let reason = '';
  for (const point of mountsBelow(directory)) {
    const result = await run('umount', [point]);
    if (result.exitCode !== 0) reason = result.stderr.trim();
  }
  const left = mountsBelow(directory);
  if (left.length > 0) {
    throw new FailedPrecondition(
      `still mounted: ${left.join(', ')} (${reason}); end what uses it, then repeat`,
    );
  }
}
