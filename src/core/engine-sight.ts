import { FailedPrecondition } from '../errors/errors.ts';
import type { Mounter } from './ports.ts';

/** Where a mount stands, and how the engine looks at it. */
export interface EngineLook {
  readonly target: string;
  /** The directory of all such mount points, for the message. */
  readonly below: string;
  /** Whether the engine has it at a path of its own. */
  readonly elsewhere: boolean;
}

/**
 * A container that gets a mount point which its engine does not see mounted would write into the bare directory.
 * @param peer the engine's process @throws FailedPrecondition with the cure
 */
export async function requireVisible(mounter: Mounter, peer: number, look: EngineLook): Promise<void> {
  if (await mounter.visibleTo(peer, look.target, { elsewhere: look.elsewhere })) return;
  throw new FailedPrecondition(
    `the container engine (process ${peer}) does not see mounts made under ${look.below}; ` +
      'run varve in the mount namespace of the engine, or share the directory with it (mount --make-rshared; docker run --volume PATH:PATH:rshared)',
  );
}

/** For an engine that makes calls from another pid namespace, which shows as process 0. */
export function blindness(): FailedPrecondition {
  return new FailedPrecondition(
    'varve does not see the processes of the container engine, and could not tell who uses a volume; ' +
      'give it the pid namespace of the host (docker run --pid host)',
  );
}
