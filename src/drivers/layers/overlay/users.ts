import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { lowerPath } from '../../../core/layers/overlay-mounts.ts';
import type { MountUser } from '../../../core/mount.ts';
import type { LayerNumber } from '../../../core/names.ts';
import { errorCode, fromNodeError } from '../../../errors/from-errno.ts';
import { findMountUsers, MountedPlaces } from '../../../host/linux/mount-users.ts';
import { findOverlayParts, findOverlayUsers } from '../../../host/linux/overlay-users.ts';
import { layerAt, trash } from '../trash.ts';
import { hasUpperImage, writableHome } from '../upper-image.ts';

/** A process that has a layer mounted, by itself or as a part of an overlay. @throws Unavailable */
export async function layerUser(root: string, number: LayerNumber): Promise<MountUser | undefined> {
  const own = join(await writableHome(join(root, String(number))), 'fs');
  const [user] = [...(await overlayUsers(root, number)), ...(await findMountUsers(own))];
  return user;
}

/**
 * Which of these layers, in their place or in the trash, any mount on this host shows files of. One whose directory
 * cannot be looked at counts. @throws Unavailable
 */
export async function layersInUse(
  root: string,
  numbers: readonly LayerNumber[],
): Promise<ReadonlySet<LayerNumber>> {
  const places = await MountedPlaces.read();
  const mounted = new Set((await places.below(root)).map(layerAt));
  const names = numbers.map(number => [number, partsOf(root, number)] as const);
  const parts = await findOverlayParts({ root, names: names.flatMap(([, own]) => own) });
  const used = new Set<LayerNumber>();
  for (const [number, own] of names) {
    if (mounted.has(number) || own.some(name => parts.has(name))) used.add(number);
  }
  for (const [number, directory] of await directoriesOf(root, numbers)) {
    if (!used.has(number) && (await isImageMounted(directory, places))) used.add(number);
  }
  return used;
}

async function isImageMounted(directory: string, places: MountedPlaces): Promise<boolean> {
  try {
    if (!(await hasUpperImage(directory))) return false;
    return (await places.below(join(await writableHome(directory), 'fs'))).length > 0;
  } catch {
    return true;
  }
}

function overlayUsers(root: string, number: LayerNumber): Promise<readonly MountUser[]> {
  return findOverlayUsers({ root, names: partsOf(root, number) });
}

/** What a layer is called, below the root, as a part of an overlay. */
function partsOf(root: string, number: LayerNumber): readonly string[] {
  return [`${number}/fs`, `${number}/upper/fs`, `l/${basename(lowerPath(root, number))}`];
}

/** Absolute paths: where the layers stand, and where they may lie in the trash. */
async function directoriesOf(
  root: string,
  numbers: readonly LayerNumber[],
): Promise<readonly (readonly [LayerNumber, string])[]> {
  const names = await readdir(join(root, trash)).catch(error => {
    if (errorCode(error) === 'ENOENT') return [];
    throw fromNodeError(error, `read ${join(root, trash)}`);
  });
  const wanted = new Set(numbers);
  const trashed = names.flatMap(name => {
    const number = layerAt(name);
    return number !== undefined && wanted.has(number) ? [[number, join(root, trash, name)] as const] : [];
  });
  return [...numbers.map(number => [number, join(root, String(number))] as const), ...trashed];
}
