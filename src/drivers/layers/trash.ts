/** Where the directories of removed layers wait until nobody uses them. */
import { type LayerNumber, parseLayerNumber } from '../../core/names.ts';
import type { Directory } from '../../core/ports.ts';
import { NotFound } from '../../errors/errors.ts';
import { step } from '../../lib/fault.ts';

export const trash = 'trash';

/** `7`, `new-7`, and `7.1` when there was one already. */
const nameInTrash = /^(?:new-)?([1-9][0-9]{0,14})(?:\.[0-9]+)?$/;

export interface Trashed {
  /** Below the root. */
  readonly path: string;
  readonly number: LayerNumber;
}

export async function trashIn(root: Directory): Promise<readonly Trashed[]> {
  if (!(await root.exists(trash))) return [];
  return (await root.list(trash)).flatMap(name => {
    const number = nameInTrash.exec(name)?.[1];
    return number === undefined ? [] : [{ path: `${trash}/${name}`, number: parseLayerNumber(number) }];
  });
}

/** Moves a directory into the trash; one that somebody else moves there at the same time is fine. */
export async function moveToTrash(root: Directory, name: string): Promise<void> {
  if (!(await root.exists(trash))) await root.makeDirectory(trash, { mode: 0o700, exist: 'ok' });
  let target = `${trash}/${name}`;
  for (let copy = 1; await root.exists(target); copy += 1) target = `${trash}/${name}.${copy}`;
  try {
    await step('layer.discard', () => root.rename(name, target));
  } catch (error) {
    if (!(error instanceof NotFound) || (await root.exists(name))) throw error;
  }
}

/** The layer to whose directory a path below the root belongs, in its place or in the trash. */
export function layerAt(path: string): LayerNumber | undefined {
  const [first = '', second = ''] = path.split('/');
  const number = nameInTrash.exec(first === trash ? second : first)?.[1];
  return number === undefined ? undefined : parseLayerNumber(number);
}
