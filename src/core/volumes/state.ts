/** Compares the records with the disks and the mount table, and repairs what can be repaired safely. */
import { FailedPrecondition, messageOf, Unavailable } from '../../errors/errors.ts';
import type { PoolName } from '../names.ts';
import type { Clock, ObjectStore } from '../ports.ts';
import type { Catalog, Volume } from './catalog.ts';
import type { Pool, VolumeManifest } from './pool.ts';
import type { Pools } from './pools.ts';
import type { Publisher } from './publisher.ts';
import { isOf, manifestOf, type Place, sameManifest, samePlace } from './record.ts';
import type { VolumeService } from './service.ts';
import type { StateExport, StateFinding } from './view.ts';

export interface StateParts {
  readonly store: ObjectStore;
  readonly catalog: Catalog;
  readonly pools: Pools;
  readonly publisher: Publisher;
  readonly service: VolumeService;
  readonly clock: Clock;
}

/** A disagreement, and the act that ends it, if there is a safe one. */
interface Discovery extends Omit<StateFinding, 'repair' | 'repaired'> {
  readonly repair: { readonly doc: string; readonly act: () => Promise<unknown> } | null;
}

/** Everything that the records hold. There are no secrets among it, since no option takes one. */
export async function exportState({
  store,
  clock,
}: Pick<StateParts, 'store' | 'clock'>): Promise<StateExport> {
  const objects = (await store.list('')).map(({ key, value }) => ({ key, value }));
  return { version: 1, exportedAt: clock.now().toISOString(), revision: await store.revision(), objects };
}

/** Finds every disagreement; with `repair` it also ends those that it can. */
export async function checkState(parts: StateParts, repair: boolean): Promise<readonly StateFinding[]> {
  const found: Discovery[] = [];
  for (const pool of parts.pools.all()) found.push(...(await checkPool(parts, pool)));
  found.push(...(await checkMounts(parts)));
  const findings: StateFinding[] = [];
  for (const discovery of found) findings.push(await conclude(discovery, repair));
  return findings;
}

async function conclude({ repair, ...finding }: Discovery, wanted: boolean): Promise<StateFinding> {
  if (repair === null || !wanted) return { ...finding, repair: repair?.doc ?? null, repaired: false };
  try {
    await repair.act();
    return { ...finding, repair: repair.doc, repaired: true };
  } catch (error) {
    return {
      ...finding,
      message: `${finding.message}; repair failed: ${messageOf(error)}`,
      repair: repair.doc,
      repaired: false,
    };
  }
}

async function checkPool(parts: StateParts, pool: Pool): Promise<Discovery[]> {
  const recorded = parts.catalog.all().filter(({ record }) => record.pool === pool.name);
  try {
    await parts.pools.probe(pool);
    const onDisk = await pool.numbers();
    const trash = (await parts.catalog.trash()).filter(place => place.pool === pool.name);
    const known = new Set([...recorded.map(({ record }) => record), ...trash].map(({ number }) => number));
    const findings: Discovery[] = [];
    // One at a time: thousands at once would take every thread and descriptor from the requests.
    for (const volume of recorded) findings.push(...(await checkVolume(parts, pool, volume)));
    for (const number of onDisk.filter(candidate => !known.has(candidate))) {
      findings.push(...(await checkUnrecorded(parts, pool, { pool: pool.name, number })));
    }
    return findings;
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return [{ problem: 'pool-unavailable', subject: pool.name, message: error.message, repair: null }];
  }
}

async function checkVolume(parts: StateParts, pool: Pool, volume: Volume): Promise<Discovery[]> {
  const { record } = volume;
  if (record.phase !== 'Ready') return [];
  const subject = record.name;
  if (!(await pool.has(record.number))) {
    const message = `the data directory ${pool.dataPath(record.number)} is gone; restore it from a backup, or remove the volume`;
    return [{ problem: 'missing-data', subject, message, repair: null }];
  }
  const onDisk = await pool.read(record.number);
  const rewrite = {
    doc: 'write volume.json again from the record',
    act: () => parts.service.exclusively(record.name, () => pool.writeManifest(manifestOf(volume.record))),
  };
  if ('damage' in onDisk) {
    return [{ problem: 'damaged-manifest', subject, message: onDisk.damage, repair: rewrite }];
  }
  if (sameManifest(onDisk.manifest, manifestOf(record))) return [];
  if (!isOf(onDisk.manifest, record)) {
    const message = `its directory ${pool.dataPath(record.number)} holds another volume, ${onDisk.manifest.name}; the state database is probably an old one: look at both by hand`;
    return [{ problem: 'stale-manifest', subject, message, repair: null }];
  }
  return [
    { problem: 'stale-manifest', subject, message: 'volume.json differs from the record', repair: rewrite },
  ];
}

async function checkUnrecorded(parts: StateParts, pool: Pool, place: Place): Promise<Discovery[]> {
  const found = await pool.read(place.number);
  const subject = `${place.pool}/${place.number}`;
  if ('damage' in found) {
    const message = `a directory that the records do not know: ${found.damage}; look into it and move it away by hand`;
    return [{ problem: 'damaged-manifest', subject, message, repair: null }];
  }
  const { name } = found.manifest;
  const isTaken = parts.catalog.find(name) !== undefined;
  const message = isTaken
    ? `a second volume with the name ${name}; move it away by hand`
    : `the volume ${name} is on the disk but not in the records`;
  const adopt = { doc: 'restore its record', act: () => adoptVolume(parts, place.pool, found.manifest) };
  return [{ problem: 'unrecorded-volume', subject, message, repair: isTaken ? null : adopt }];
}

/** Takes a volume that the disk holds into the records. @throws Aborted when its name is taken */
async function adoptVolume(parts: StateParts, pool: PoolName, manifest: VolumeManifest): Promise<void> {
  await parts.service.exclusively(manifest.name, () => parts.catalog.adopt(pool, manifest));
}

async function checkMounts({ catalog, pools, publisher, service }: StateParts): Promise<Discovery[]> {
  const published = await publisher.published();
  const leftovers = published.filter(place => !catalog.all().some(({ record }) => samePlace(record, place)));
  const missing = catalog
    .all()
    .filter(volume => volume.consumers.size > 0 && !published.some(place => samePlace(place, volume.record)));
  return [
    ...leftovers.map(place => ({
      problem: 'leftover-mount' as const,
      subject: publisher.mountPoint(place),
      message: 'a mount of a volume that the records do not know',
      repair: { doc: 'unmount it, unless it is in use', act: () => unmountUnused(pools, publisher, place) },
    })),
    ...missing.map(volume => ({
      problem: 'missing-mount' as const,
      subject: volume.record.name,
      message: 'the volume has consumers but is not mounted',
      repair: {
        doc: 'mount it again',
        act: () => service.exclusively(volume.record.name, held => service.publish(held, volume)),
      },
    })),
  ];
}

async function unmountUnused(pools: Pools, publisher: Publisher, place: Place): Promise<void> {
  const [user] = await publisher.users(pools.get(place.pool), place);
  if (user !== undefined)
    throw new FailedPrecondition(`process ${user.pid} has it mounted on ${user.mountPoint}`);
  await publisher.unpublish(place);
}
