import { type LayerManifest, parseLayerManifest } from '../../core/layers/record.ts';
import type { LayerNumber } from '../../core/names.ts';
import type { Directory } from '../../core/ports.ts';
import { messageOf } from '../../errors/errors.ts';

/** The manifest in a directory below the root of a layer store, or why it cannot be read. */
export async function readManifest(
  root: Directory,
  directory: string,
  number: LayerNumber,
): Promise<LayerManifest | { readonly unreadable: string }> {
  const text = await root.readFile(`${directory}/layer.json`);
  if (text === undefined) return { unreadable: 'layer.json is missing' };
  try {
    return parseLayerManifest(number, JSON.parse(text));
  } catch (error) {
    return { unreadable: `layer.json cannot be used: ${messageOf(error)}` };
  }
}
