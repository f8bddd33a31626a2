/**
 * Who uses a volume, as far as the engine tells: pure rules, no storage.
 *
 * An engine names each use with a mount id and is not a reliable witness. `docker cp` on a running container
 * sends Mount and Unmount with the container's own id; after a crash the engine mounts the same id again and
 * never unmounts the old one; with live-restore it may not unmount at all. So these counts only say when a
 * volume may be looked at for release; what decides is whether any mount namespace still has it mounted.
 */
import type { MountId } from '../names.ts';

export interface Consumer {
  /** Mounts without their unmounts: never too low. */
  readonly count: number;
  /**
   * False once the engine, or this daemon, has restarted: the count may then be too high by any number of
   * calls that were never made or never answered, and stays so for this id.
   */
  readonly confirmed: boolean;
  /** Milliseconds since the epoch, of the latest mount or of the latest sight of a use. */
  readonly sinceMs: number;
}

export type Consumers = ReadonlyMap<MountId, Consumer>;

export const noConsumers: Consumers = new Map();

/** How long after Mount the container may not have started yet, in milliseconds: an engine gives it two minutes. */
export const startMs = 2 * 60 * 1000;

/**
 * How long a consumer that no mount namespace shows is believed, in milliseconds. While an engine copies an image's
 * files into a new volume it mounts it nowhere else, and lists no container yet: that may take long. A volume
 * that stays mounted for longer than it is used does no harm, and can be removed.
 */
export const graceMs = 60 * 60 * 1000;

/** The same for a consumer that nothing speaks against but that nobody has seen for so long. */
export const forgottenMs = 24 * graceMs;

/**
 * The id of every mount that Podman asks for (libpod/volume_internal_linux.go, pseudoCtrID). Podman counts by itself:
 * it asks at the first use of a volume and never again before the last has ended. A use that it could not give
 * back, because this daemon was away, it counts for ever; from then on it starts containers on the mount point
 * without a word. So that has to stay as it is until Podman asks.
 */
const podmanId = '2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2';

/**
 * Counts a mount. A count that may be too high grows as well: to start it anew would make it too low when the
 * container that the id belongs to, or a copy into it, has outlived the restart.
 */
export function mounted(consumers: Consumers, id: MountId, nowMs: number): Consumers {
  const { count, confirmed } = consumers.get(id) ?? { count: 0, confirmed: true };
  return new Map(consumers).set(id, { count: count + 1, confirmed, sinceMs: nowMs });
}

/** Counts an unmount. An unknown id changes nothing. */
export function unmounted(consumers: Consumers, id: MountId): Consumers {
  const known = consumers.get(id);
  if (known === undefined) return consumers;
  const rest = new Map(consumers);
  if (known.count > 1) rest.set(id, { ...known, count: known.count - 1 });
  else rest.delete(id);
  return rest;
}

/** Marks every consumer as unconfirmed: the engine or this daemon has restarted. */
export function unconfirmed(consumers: Consumers): Consumers {
  if (![...consumers.values()].some(({ confirmed }) => confirmed)) return consumers;
  return new Map([...consumers].map(([id, consumer]) => [id, { ...consumer, confirmed: false }]));
}

/** What is known of a volume from elsewhere when its consumers are settled. */
export interface Evidence {
  /** Whether a mount namespace other than our own mount point has the volume mounted. */
  readonly inUse: boolean;
  /** Whether the engine said that it has containers with the volume and that none of them runs. */
  readonly disowned: boolean;
  readonly nowMs: number;
}

/**
 * Drops the consumers that cannot be real: nobody has the volume mounted, a grace is over, and either the count
 * is unconfirmed or the engine says itself that no container uses the volume. A volume that is in use counts as
 * seen now, so that it need not be looked for again soon. Podman's consumer is not ours to drop.
 */
export function settled(consumers: Consumers, evidence: Evidence): Consumers {
  const { inUse, nowMs } = evidence;
  const doubtful = [...consumers].filter(
    ([id, consumer]) => id !== podmanId && isDoubtful(consumer, evidence),
  );
  if (doubtful.length === 0) return consumers;
  const rest = new Map(consumers);
  for (const [id, consumer] of doubtful) {
    if (inUse) rest.set(id, { ...consumer, sinceMs: nowMs });
    else rest.delete(id);
  }
  return rest;
}

function isDoubtful({ confirmed, sinceMs }: Consumer, { disowned, nowMs }: Evidence): boolean {
  return nowMs - sinceMs >= (confirmed && !disowned ? forgottenMs : graceMs);
}
