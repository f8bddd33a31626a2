/** How a volume is shown: the same facts for `docker volume inspect` and for the command line. */
import { formatBytes } from '../quantity.ts';
import type { Volume } from './catalog.ts';
import { describeProgress } from './copies.ts';
import type { UnrecordedVolume } from './pools.ts';
import type { ConsumerView, VolumeView } from './view.ts';

/** The view of a volume that is mounted on `mountPoint` (empty when it is not), in a pool of that health. */
export function viewOf(
  volume: Volume | UnrecordedVolume,
  mountPoint: string,
  poolHealth: string,
): VolumeView {
  if (!('record' in volume)) return viewOfUnrecorded(volume);
  const { record, labels, usage, progress, containers } = volume;
  return {
    name: record.name,
    driver: record.driver,
    pool: record.pool,
    number: record.number,
    mountPoint,
    createdAt: record.createdAt,
    phase: record.phase,
    health: record.phase === 'Failed' ? (record.failure ?? 'failed') : poolHealth,
    protected: record.protected,
    options: record.options,
    labels,
    limitBytes: null,
    usage: usage && { bytes: usage.bytes, inodes: usage.inodes, measuredAt: usage.measuredAt.toISOString() },
    consumers: consumersOf(volume),
    containers,
    progress,
  };
}

function consumersOf({ consumers }: Volume): ConsumerView[] {
  return [...consumers].map(([mountId, { count, confirmed, sinceMs }]) => ({
    mountId,
    count,
    confirmed,
    since: new Date(sinceMs).toISOString(),
  }));
}

function viewOfUnrecorded({ pool, number, manifest }: UnrecordedVolume): VolumeView {
  return {
    ...manifest,
    pool,
    number,
    mountPoint: '',
    phase: 'Unrecorded',
    health: 'on the disk but not in the records; stop the daemon and run `varve state rebuild`',
    labels: {},
    limitBytes: null,
    usage: null,
    consumers: [],
    containers: [],
    progress: null,
  };
}

/** The `Status` of `docker volume inspect`: what a person wants to know, in words they can read. */
export function statusOf(view: VolumeView): Record<string, unknown> {
  const { usage, limitBytes, progress } = view;
  return {
    pool: view.pool,
    phase: view.phase,
    health: view.health,
    used: usage === null ? 'not measured yet' : formatBytes(usage.bytes),
    usedBytes: usage?.bytes ?? null,
    inodes: usage?.inodes ?? null,
    measuredAt: usage?.measuredAt ?? null,
    limit: limitBytes === null ? 'none' : formatBytes(limitBytes),
    consumers: view.consumers.length,
    protected: view.protected,
    ...(progress !== null && { progress: describeProgress(progress) }),
  };
}
