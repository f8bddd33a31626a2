import { messageOf } from '../../errors/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { LayerStoreName } from '../names.ts';
import type { Clock, ObjectStore } from '../ports.ts';
import { LayerCatalog } from './catalog.ts';
import type { LayerDisk } from './layer-disk.ts';
import { type LayerRecord, layerKeys, manifestOf } from './record.ts';
import { Layers } from './store.ts';

export interface OpenLayerStore {
  readonly name: LayerStoreName;
  readonly store: ObjectStore;
  readonly disk: LayerDisk;
  readonly clock: Clock;
  readonly bootId: string;
  readonly log: Logger;
  /** Whether the layers are an engine's, with records of its own; by default not. */
  readonly isOfEngine?: boolean;
}

/**
 * Opens a layer store and makes the disk what the records say: drafts of recorded layers get their place, other
 * drafts go, and so does the trash later. A layer that the records do not know stays as it is, since the records may
 * be the older of the two; one that cannot be used says why, and keeps no other from being used.
 * @throws FailedPrecondition for a damaged record, Unavailable without the disk
 */
export async function openLayerStore(options: OpenLayerStore): Promise<Layers> {
  const { name, store, disk, clock, bootId, log, isOfEngine } = options;
  const warn = (message: string) => log.warn(`layer store ${name}: ${message}`);
  const catalog = new LayerCatalog(store, layerKeys(name), isOfEngine);
  await catalog.load();
  const found = await disk.found();
  const trash = await catalog.trash();
  catalog.reserveNumbers([...found.layers, ...found.drafts, ...found.removed, ...trash]);
  const known = new Set(catalog.all().map(({ number }) => number));
  for (const draft of found.drafts) {
    if (known.has(draft)) continue;
    await disk.dropDraft(draft).catch((error: unknown) => warn(messageOf(error)));
  }
  for (const number of trash) await disk.remove(number);
  await catalog.forgetTrash(trash);

  await markLost(catalog, disk, bootId);
  await placeAll(catalog, disk);
  const unrecorded = found.layers.filter(number => !known.has(number) && !trash.includes(number));
  // Records that do not know a layer are the older of the two: what the manifests say is all that a rebuild has.
  if (unrecorded.length === 0) await correctManifests(catalog, disk);
  for (const record of catalog.all()) {
    const damage = catalog.damageOf(record);
    if (damage !== null) warn(`the layer ${record.name} is damaged: ${damage}`);
  }
  for (const number of unrecorded) warn(`${disk.root}/${number} is not in the records; it is left alone`);
  return new Layers({ catalog, disk, clock, bootId, unrecorded });
}

/** What was never brought to the disk is brought there now, or was lost when the host went down. */
async function markLost(catalog: LayerCatalog, disk: LayerDisk, bootId: string): Promise<void> {
  const unsynced = catalog.all().filter(({ unsyncedBoot }) => unsyncedBoot !== null);
  if (unsynced.some(({ unsyncedBoot }) => unsyncedBoot === bootId)) await disk.sync();
  const put = unsynced.map((record): LayerRecord => {
    const lost = 'the host went down before its data was on the disk';
    return { ...record, unsyncedBoot: null, damage: record.unsyncedBoot === bootId ? record.damage : lost };
  });
  if (put.length > 0) await catalog.change({ put });
}

async function placeAll(catalog: LayerCatalog, disk: LayerDisk): Promise<void> {
  const placings = [];
  for (const record of catalog.all()) {
    try {
      placings.push({ stack: catalog.stackOf(record), kind: record.kind });
    } catch (error) {
      catalog.setMissing(record.name, messageOf(error));
    }
  }
  const failed = await disk.placeAll(placings);
  for (const { name, number } of catalog.all()) {
    const error = failed.get(number);
    if (error !== undefined) catalog.setMissing(name, error.message);
  }
}

/** A crash in the middle of a commit, freeze or merge leaves the manifest of a layer that it was about to change. */
async function correctManifests(catalog: LayerCatalog, disk: LayerDisk): Promise<void> {
  for (const record of catalog.all()) {
    if (record.kind === 'committed' || catalog.damageOf(record) !== null) continue;
    const wanted = manifestOf(record);
    const found = await disk.readManifest(record.number);
    if (JSON.stringify(found) !== JSON.stringify(wanted)) await disk.writeManifest(wanted);
  }
}
