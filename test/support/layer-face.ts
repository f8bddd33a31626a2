import { createHash, randomUUID } from 'node:crypto';
import { LayerImporter } from '../../src/core/layers/importer.ts';
import { type InspectedStores, LayerInspector } from '../../src/core/layers/inspector.ts';
import { NotFound } from '../../src/errors/errors.ts';
import type { LayerParts } from '../../src/servers/admin/layers.ts';
import { FakeLayerStore } from './fake-layer-store.ts';

/** What an admin socket needs to show layers. */
export function layerFace(
  stores: Readonly<Record<string, FakeLayerStore>> = { default: new FakeLayerStore() },
): LayerParts {
  const layers = new LayerInspector(setOf(stores));
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  return { layers, importer: new LayerImporter({ inspector: layers, newUuid: randomUUID, sha256 }) };
}

/** These stores, as a daemon has them. */
export function setOf(stores: Readonly<Record<string, FakeLayerStore>>): InspectedStores {
  return {
    made: async () => Object.keys(stores),
    get: async name => {
      const store = stores[name];
      if (store === undefined) throw new NotFound(`no such layer store: ${name}`);
      return store;
    },
  };
}
