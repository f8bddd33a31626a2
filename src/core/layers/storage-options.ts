import { InvalidArgument } from '../../errors/errors.ts';
import { show } from '../names.ts';
import { parseSize } from '../quantity.ts';
import type { Limit } from './layer-store.ts';

/**
 * What `docker run --storage-opt size=10G` asks for, as dockerd writes it. As in dockerd's own drivers GB is a power of
 * 1024 as well, and the case of the name is of no importance.
 * @returns null when nothing is asked for. @throws InvalidArgument for any other option
 */
export function parseStorageOptions(raw: unknown): Limit | null {
  if (raw === undefined || raw === null) return null;
  if (typeof raw !== 'object' || Array.isArray(raw))
    throw new InvalidArgument(`StorageOpt ${show(raw)} is not an object`);
  let limit: Limit | null = null;
  for (const [name, value] of Object.entries(raw)) {
    if (name.toLowerCase() !== 'size' || typeof value !== 'string') {
      throw new InvalidArgument(`varve has no storage option ${show(name)}; use size=SIZE, such as size=10G`);
    }
    limit = { bytes: parseSize(value.replace(/b$/i, '')) };
  }
  return limit;
}
