import { mkdir, readlink, stat, symlink, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { lowerPath } from '../../../core/layers/overlay-mounts.ts';
import { type LayerNumber, parseLayerNumber } from '../../../core/names.ts';
import { errorCode, fromNodeError } from '../../../errors/from-errno.ts';

/** Makes the short link to a layer's files; there already is fine. */
export async function makeLink(root: string, number: LayerNumber): Promise<void> {
  const path = lowerPath(root, number);
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await symlink(`../${number}/fs`, path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && (await hasLink(root, number))) return;
    throw fromNodeError(error, `make the link ${path}`);
  }
}

export async function hasLink(root: string, number: LayerNumber): Promise<boolean> {
  return (await readlink(lowerPath(root, number)).catch(() => '')) === `../${number}/fs`;
}

/** Removes the link of a layer whose directory, of whatever name, was deleted. */
export async function removeDanglingLink(root: string, directory: string): Promise<void> {
  const digits = /^(?:new-)?([1-9][0-9]*)(?:\.[0-9]+)?$/.exec(basename(directory))?.[1];
  if (digits === undefined) return;
  const number = parseLayerNumber(digits);
  if (await isThere(join(root, digits))) return;
  await unlink(lowerPath(root, number)).catch(error => {
    if (errorCode(error) !== 'ENOENT') throw fromNodeError(error, `remove ${lowerPath(root, number)}`);
  });
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
