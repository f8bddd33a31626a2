import {
  parseDriverName,
  parseVolumeName,
  parseVolumeNumber,
  type VolumeNumber,
} from '../../../core/names.ts';
import type { FoundVolume, VolumeManifest } from '../../../core/volumes/pool.ts';
import { timestamp } from '../../../core/volumes/record.ts';
import { InvalidArgument, messageOf } from '../../../errors/errors.ts';

/** The text of `volume.json`. */
export function manifestText(manifest: VolumeManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Reads what stands in `volume.json`; it comes from a disk that others can write, so nothing in it is believed. */
export function readManifest(number: VolumeNumber, text: string | undefined): FoundVolume {
  if (text === undefined) return { number, damage: 'volume.json is missing' };
  try {
    return { number, manifest: parseManifest(number, JSON.parse(text)) };
  } catch (error) {
    return { number, damage: `volume.json cannot be used: ${messageOf(error)}` };
  }
}

function parseManifest(number: VolumeNumber, raw: unknown): VolumeManifest {
  const { version, name, driver, options, createdAt, ...rest } = (raw ?? {}) as Record<string, unknown>;
  if (version !== 1)
    throw new InvalidArgument(
      `version ${JSON.stringify(version)} is not known to this varve; run the one that wrote it`,
    );
  if (parseVolumeNumber(rest['number']) !== number)
    throw new InvalidArgument('it belongs to another volume number');
  const time = timestamp.safeParse(createdAt);
  if (!time.success) throw new InvalidArgument('createdAt is not a time');
  if (!isTextRecord(options)) throw new InvalidArgument('options is not an object of texts');
  return {
    version: 1,
    number,
    name: parseVolumeName(name),
    driver: parseDriverName(driver),
    options,
    createdAt: time.data,
    protected: rest['protected'] === true,
  };
}

function isTextRecord(raw: unknown): raw is Record<string, string> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return false;
  return Object.values(raw).every(value => typeof value === 'string');
}
