import { InvalidArgument } from '../errors/errors.ts';

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The name of a volume as Docker knows it. {@link parseVolumeName} is the only way to get one. */
export type VolumeName = Brand<string, 'VolumeName'>;
/** The name of a pool. {@link parsePoolName} is the only way to get one. */
export type PoolName = Brand<string, 'PoolName'>;
/** The name under which a container engine knows this daemon: the plugin name. */
export type DriverName = Brand<string, 'DriverName'>;
/** What the engine calls one use of a volume: for Docker 64 hex digits for each mount point of a container. */
export type MountId = Brand<string, 'MountId'>;
/** The number that names a volume on disk: never derived from a name, never used twice. */
export type VolumeNumber = Brand<number, 'VolumeNumber'>;
/** The number that names a layer on disk: never derived from a key, never used twice. */
export type LayerNumber = Brand<number, 'LayerNumber'>;
/** The name of a layer store. {@link parseLayerStoreName} is the only way to get one. */
export type LayerStoreName = Brand<string, 'LayerStoreName'>;
/** The key of an active layer or view, or the name of a committed one. {@link parseLayerKey} is the only way to get one. */
export type LayerKey = Brand<string, 'LayerKey'>;

/** Longest volume name, in characters: as long as a Linux file name can be (NAME_MAX). */
const maxVolumeNameLength = 255;

const volumeName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const poolName = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
const driverName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/**
 * Parses the name of a volume. Docker sends plugin drivers any name at all, `..` and `a/b` included, so the
 * rule of its own `local` driver is kept here (moby, daemon/volume/local).
 * @throws InvalidArgument
 */
export function parseVolumeName(raw: unknown): VolumeName {
  return parse(
    'volume name',
    raw,
    volumeName,
    maxVolumeNameLength,
    'letters, digits, "_", "." and "-", the first a letter or digit',
  ) as VolumeName;
}

/** @throws InvalidArgument */
export function parsePoolName(raw: unknown): PoolName {
  return parse('pool name', raw, poolName, 63, 'small letters, digits and "-"') as PoolName;
}

/** @throws InvalidArgument */
export function parseDriverName(raw: unknown): DriverName {
  return parse('driver name', raw, driverName, 63, 'letters, digits, "_", "." and "-"') as DriverName;
}

/** What containerd calls one of its snapshotters, and Docker Engine its storage driver. @throws InvalidArgument */
export function parseSnapshotterName(raw: unknown): string {
  return parse('snapshotter name', raw, driverName, 63, 'letters, digits, "_", "." and "-"');
}

/** @throws InvalidArgument */
export function parseMountId(raw: unknown): MountId {
  return parse('mount id', raw, /^[\x21-\x7e]+$/, 255, 'printable characters without spaces') as MountId;
}

/** @throws InvalidArgument */
export function parseVolumeNumber(raw: unknown): VolumeNumber {
  return parseNumber('volume number', raw) as VolumeNumber;
}

/** @throws InvalidArgument */
export function parseLayerNumber(raw: unknown): LayerNumber {
  return parseNumber('layer number', raw) as LayerNumber;
}

/** @throws InvalidArgument */
export function parseLayerStoreName(raw: unknown): LayerStoreName {
  return parse('layer store name', raw, poolName, 63, 'small letters, digits and "-"') as LayerStoreName;
}

/**
 * Engines use any text: containerd's keys hold slashes, spaces and colons. It never reaches the disk as a name.
 * @throws InvalidArgument
 */
export function parseLayerKey(raw: unknown): LayerKey {
  const maxBytes = 4096;
  if (typeof raw !== 'string' || raw === '') {
    throw new InvalidArgument('the layer key is missing; send the request again with a layer key');
  }
  if (Buffer.byteLength(raw) > maxBytes || raw.includes('\0') || !raw.isWellFormed()) {
    throw new InvalidArgument(
      `the layer key ${show(raw)} is not allowed; use at most ${maxBytes} bytes of UTF-8 and no NUL`,
    );
  }
  return raw as LayerKey;
}

function parseNumber(what: string, raw: unknown): number {
  const number = typeof raw === 'string' && /^[1-9][0-9]{0,14}$/.test(raw) ? Number(raw) : raw;
  if (!Number.isSafeInteger(number) || (number as number) < 1) {
    throw new InvalidArgument(`${what} ${show(raw)} is not a positive whole number`);
  }
  return number as number;
}

function parse(what: string, raw: unknown, pattern: RegExp, max: number, allowed: string): string {
  if (typeof raw !== 'string' || raw === '') {
    throw new InvalidArgument(`the ${what} is missing; send the request again with a ${what}`);
  }
  if (raw.length > max) {
    throw new InvalidArgument(
      `the ${what} ${show(raw)} has ${raw.length} characters; at most ${max} are allowed`,
    );
  }
  if (!pattern.test(raw)) {
    throw new InvalidArgument(`the ${what} ${show(raw)} is not allowed; use ${allowed}`);
  }
  return raw;
}

/** A value of the caller's as it may stand in a message: quoted, and cut when it is long. */
export function show(raw: unknown): string {
  const text = JSON.stringify(raw) ?? String(raw);
  return text.length > 80 ? `${text.slice(0, 76)}..."` : text;
}
