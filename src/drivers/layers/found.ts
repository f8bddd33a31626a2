import type { FoundLayers } from '../../core/layers/layer-disk.ts';
import { parseLayerNumber } from '../../core/names.ts';
import type { Directory } from '../../core/ports.ts';
import { trashIn } from './trash.ts';

/** What the root of a layer store holds. */
export async function foundIn(root: Directory): Promise<FoundLayers> {
  const names = await root.list('.');
  const numbers = (pattern: RegExp) =>
    names.flatMap(name => pattern.exec(name)?.[1] ?? []).map(parseLayerNumber);
  const removed = (await trashIn(root)).map(({ number }) => number);
  return {
    layers: numbers(/^([1-9][0-9]{0,14})$/),
    drafts: numbers(/^new-([1-9][0-9]{0,14})$/),
    removed,
  };
}
