import { InvalidArgument } from '../errors/errors.ts';
import { show } from './names.ts';

const powers = ['', 'k', 'm', 'g', 't', 'p', 'e'];

/**
 * Parses a size as people write it for Docker and for Kubernetes: `10g`, `10GB`, `10Gi`, `1.5T`, `1048576`.
 * A bare letter is a power of 1024 as in Docker (`docker run --memory`), `Gi` and `GiB` too; `GB` is one of 1000.
 * @returns bytes
 * @throws InvalidArgument
 */
export function parseSize(raw: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(?:([kmgtpe])(i?))?(b?)$/i.exec(raw.trim());
  const power = powers.indexOf(match?.[2]?.toLowerCase() ?? '');
  const bytes = Math.ceil(Number(match?.[1]) * base(match?.[3] ?? '', match?.[4] ?? '') ** power);
  if (match === null || !Number.isSafeInteger(bytes) || bytes < 1) {
    throw new InvalidArgument(`size ${show(raw)} is not a size; write it like 500Mi, 10Gi or 10g`);
  }
  return bytes;
}

function base(binary: string, unit: string): number {
  return binary === '' && unit !== '' ? 1000 : 1024;
}

/** Bytes for people: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(6, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  const unit = power === 0 ? 'B' : `${powers[power]?.toUpperCase()}iB`;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
}
