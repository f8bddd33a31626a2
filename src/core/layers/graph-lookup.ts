import { NotFound } from '../../errors/errors.ts';
import type { MountSource } from '../mount.ts';
import { show } from '../names.ts';
import { type GraphId, nameOf } from './graph-names.ts';
import type { LayerInfo, LayerStore } from './layer-store.ts';

/** A layer by the name that it has at the moment. */
export async function find(store: LayerStore, id: GraphId): Promise<LayerInfo | undefined> {
  for (const name of [nameOf.active(id), nameOf.committed(id)]) {
    const info = await store.stat(name).catch(unlessNotFound);
    if (info !== undefined) return info;
  }
  return undefined;
}

/** @throws NotFound */
export async function mustFind(store: LayerStore, id: GraphId): Promise<LayerInfo> {
  const info = await find(store, id);
  if (info !== undefined) return info;
  throw new NotFound(`no such layer: ${show(id)}; \`varve layer ls\` shows those there are`);
}

/** What a layer is compared with; null for nothing. @throws NotFound */
export async function baseName(store: LayerStore, base: GraphId | null): Promise<string | null> {
  return base === null ? null : (await mustFind(store, base)).name;
}

/** What shows a layer: a committed one by a view, which a crash may have left. */
export async function shown(
  store: LayerStore,
  id: GraphId,
  info: LayerInfo,
): Promise<readonly MountSource[]> {
  if (info.kind === 'active') return await store.mounts(info.name);
  const view = nameOf.view(id);
  const isThere = (await store.stat(view).catch(unlessNotFound)) !== undefined;
  return isThere ? await store.mounts(view) : await store.view(view, { parent: info.name });
}

/** For what may be gone, or was never there. */
export function unlessNotFound(error: unknown): undefined {
  if (!(error instanceof NotFound)) throw error;
}
