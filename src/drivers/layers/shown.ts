import type { Stack } from '../../core/layers/layer-disk.ts';
import { lowerPath } from '../../core/layers/overlay-mounts.ts';
import type { MountSource } from '../../core/mount.ts';
import { type LayerNumber, parseLayerNumber } from '../../core/names.ts';
import { parseOverlay } from '../../host/linux/overlay-options.ts';

/** As {@link LayerDisk.shown}. @param root of the store, absolute */
export function shownLayers(root: string, [mount, ...others]: readonly MountSource[]): Stack | undefined {
  if (mount === undefined || others.length > 0) return undefined;
  const numbers = pathsOf(mount).map(path => layerOfTree(root, path));
  const [top, ...below] = numbers.filter(number => number !== undefined);
  return top === undefined || below.length + 1 < numbers.length ? undefined : [top, ...below];
}

function pathsOf(mount: MountSource): readonly string[] {
  if (mount.type === 'bind') return [mount.source];
  const { upper, lowers } = parseOverlay(mount.options);
  return upper === undefined ? lowers : [upper, ...lowers];
}

/** The layer whose tree a path is: `ROOT/7/fs`, `ROOT/7/upper/fs` for one with a limit, or the link `ROOT/l/7`. */
function layerOfTree(root: string, path: string): LayerNumber | undefined {
  if (!path.startsWith(`${root}/`)) return undefined;
  const name = path.slice(root.length + 1);
  const [, own, link] =
    /^(?:([1-9][0-9]{0,14})\/(?:upper\/)?fs|l\/([1-9a-z][0-9a-z]{0,9}))$/.exec(name) ?? [];
  if (own !== undefined) return parseLayerNumber(own);
  const number = link === undefined ? Number.NaN : Number.parseInt(link, 36);
  if (!Number.isSafeInteger(number)) return undefined;
  const linked = parseLayerNumber(number);
  return lowerPath(root, linked) === path ? linked : undefined;
}
