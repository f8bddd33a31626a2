import { z } from 'zod';
import { FailedPrecondition, InvalidArgument, messageOf } from '../../errors/errors.ts';
import {
  type DriverName,
  type PoolName,
  parseDriverName,
  parsePoolName,
  parseVolumeName,
  parseVolumeNumber,
  show,
  type VolumeName,
  type VolumeNumber,
} from '../names.ts';
import type { StoredObject } from '../ports.ts';
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
  /** Options of its driver when it was made, which hold where `options` says nothing. */
  readonly defaults: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly protected: boolean;
  readonly phase: 'Creating' | 'Ready' | 'Failed';
  /** Why it failed. */
  readonly failure?: string;
}

/** A time as engines take it: RFC 3339, in UTC. They forget the labels of a volume with any other. */
export const timestamp = z.iso.datetime();

const parsed = <T>(parse: (raw: unknown) => T) => z.unknown().transform(raw => parse(raw));
const texts = z.record(z.string(), z.string());
const recordSchema = z.object({
  name: parsed(parseVolumeName),
  driver: parsed(parseDriverName),
  pool: parsed(parsePoolName),
  number: parsed(parseVolumeNumber),
  options: texts,
  defaults: texts,
  createdAt: timestamp,
  protected: z.boolean(),
  phase: z.enum(['Creating', 'Ready', 'Failed']),
  failure: z.string().optional(),
});

/** @throws FailedPrecondition, with the cure, for a record that nobody can have written so */
export function parseRecord({ key, value }: StoredObject): VolumeRecord {
  try {
    const record = recordSchema.parse(value) as VolumeRecord;
    if (key === keys.volume(record.name)) return record;
    throw new InvalidArgument(`it is the record of ${record.name}`);
  } catch (error) {
    const reason =
      error instanceof z.ZodError ? z.prettifyError(error).replace(/\s+/g, ' ') : messageOf(error);
    throw new FailedPrecondition(
      `the record ${show(key)} in the state database is damaged (${reason}); run \`varve state rebuild\`, ` +
        "which keeps the database aside and restores the records from the pools' disks",
    );
  }
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
  /** Tells this root from every other one: what pools are marked with. */
  owner: 'owner',
  /** The highest volume number ever given. */
  lastNumber: 'numbers/last',
};

/** What stands beside the data of a volume. */
export function manifestOf(record: VolumeRecord): VolumeManifest {
  const { number, name, driver, options, createdAt } = record;
  return { version: 1, number, name, driver, options, createdAt, protected: record.protected };
}

/** What stays the same as long as a volume lives. */
type Identity = Pick<VolumeManifest, 'number' | 'name' | 'createdAt'>;

/** Whether a manifest is that of a volume, whatever has changed since. */
export function isOf(manifest: Identity, { number, name, createdAt }: Identity): boolean {
  return manifest.number === number && manifest.name === name && manifest.createdAt === createdAt;
}

export function sameManifest(a: VolumeManifest, b: VolumeManifest): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
