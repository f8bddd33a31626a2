import type { LayerKey, LayerStoreName } from '../names.ts';
import type { ObjectStore } from '../ports.ts';
import { LayerCatalog } from './catalog.ts';
import type { LayerDisk } from './layer-disk.ts';
import type { LayerManifest } from './record.ts';
import { type LayerRecord, layerKeys } from './record.ts';

/** What restoring the records of a layer store did. */
export interface LayersRebuilt {
  restored: number;
  kept: number;
  readonly damaged: { readonly subject: string; readonly message: string }[];
}

/**
 * Restores records from the manifests beside the layers; records that exist are left as they are. A layer whose
 * parent is missing is not restored: its files show changes to something that is not there.
 */
export async function rebuildLayers(
  name: LayerStoreName,
  store: ObjectStore,
  disk: LayerDisk,
  onProgress: (message: string) => void,
): Promise<LayersRebuilt> {
  onProgress(`reading layer store ${name} (${disk.root})`);
  const catalog = new LayerCatalog(store, layerKeys(name));
  await catalog.load();
  const known = new Map(catalog.all().map(record => [record.number, record]));
  const report: LayersRebuilt = { restored: 0, kept: known.size, damaged: [] };
  const found = new Map<LayerKey, LayerManifest>();
  const { layers, drafts, removed } = await disk.found();
  const trash = await catalog.trash();
  catalog.reserveNumbers([...layers, ...drafts, ...removed, ...trash]);
  for (const number of layers) {
    if (known.has(number) || trash.includes(number)) continue;
    const manifest = await disk.readManifest(number);
    const problem = 'unreadable' in manifest ? manifest.unreadable : twice(manifest, catalog, found);
    if (problem !== null) report.damaged.push({ subject: `${name}/${number}`, message: problem });
    else if (!('unreadable' in manifest)) found.set(manifest.name, manifest);
  }
  const restored = withParents(catalog, found);
  for (const [key, { number }] of found) {
    if (!restored.some(record => record.name === key))
      report.damaged.push({ subject: `${name}/${number}`, message: 'the layer that it rests on is missing' });
  }
  await catalog.change({ put: restored });
  return { ...report, restored: restored.length };
}

function twice(
  { name }: LayerManifest,
  catalog: LayerCatalog,
  found: ReadonlyMap<LayerKey, LayerManifest>,
): string | null {
  const isTaken = catalog.find(name) !== undefined || found.has(name);
  return isTaken ? `a second layer with the name ${name}` : null;
}

/** Those whose stack is complete, down to the bottom. */
function withParents(
  catalog: LayerCatalog,
  found: ReadonlyMap<LayerKey, LayerManifest>,
): readonly LayerRecord[] {
  const isWhole = (parent: LayerKey | null, depth = 0): boolean => {
    if (parent === null) return true;
    const manifest = found.get(parent);
    if (manifest === undefined) return catalog.find(parent) !== undefined;
    return depth < found.size && manifest.kind === 'committed' && isWhole(manifest.parent, depth + 1);
  };
  return [...found]
    .filter(([, { parent }]) => isWhole(parent))
    .map(([, { version: _, ...record }]) => record);
}
