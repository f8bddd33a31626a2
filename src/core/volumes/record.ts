import type { DriverName, PoolName, VolumeName, VolumeNumber } from '../names.ts';
import type { VolumeManifest } from './pool.ts';

/**
 * The durable truth about one volume.
 *
 * `Creating`: its number is taken and its place on the disk may be missing or half made; it is finished, or
 * made again, at the next start. `Failed`: making it ended with an error that stays until it is removed or
 * created again. `Ready`: it can be mounted.
 */
export interface VolumeRecord {
  readonly name: VolumeName;
  readonly driver: DriverName;
  readonly pool: PoolName;
  readonly number: VolumeNumber;
  /** As given by the caller, empty ones left out. */
  readonly options: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly protected: boolean;
  readonly phase: 'Creating' | 'Ready' | 'Failed';
  /** Why it failed. */
  readonly failure?: string;
}

/** Where the bytes of a volume are: a number is unique in its pool. */
export interface Place {
  readonly pool: PoolName;
  readonly number: VolumeNumber;
}

export function samePlace(a: Place, b: Place): boolean {
  return a.pool === b.pool && a.number === b.number;
}

/** What the records know of a pool: enough to notice that another disk, or none, is mounted in its place. */
export interface PoolRecord {
  readonly driver: string;
  readonly uuid: string;
  readonly path: string;
}

export const keys = {
  volumes: 'volumes/',
  volume: (name: VolumeName): string => `volumes/${name}`,
  trash: 'trash/',
  /** Of a volume whose record is gone and whose bytes may still be on the disk. */
  trashed: ({ pool, number }: Place): string => `trash/${pool}/${number}`,
  labels: 'labels/',
  label: (name: VolumeName): string => `labels/${name}`,
  pool: (name: PoolName): string => `pools/${name}`,
  /** The highest volume number ever given. */
  lastNumber: 'numbers/last',
};

/** What stands beside the data of a volume. */
export function manifestOf(record: VolumeRecord): VolumeManifest {
  const { number, name, driver, options, createdAt } = record;
  return { version: 1, number, name, driver, options, createdAt, protected: record.protected };
}

export function sameManifest(a: VolumeManifest, b: VolumeManifest): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
