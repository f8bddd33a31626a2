import type { DriverName, PoolName } from '../names.ts';

/** A name under which an engine reaches this daemon, and what is assumed of its volumes. */
export interface Driver {
  readonly name: DriverName;
  readonly pool: PoolName;
  /** Options of a volume that the caller does not set. */
  readonly options: Readonly<Record<string, string>>;
}
