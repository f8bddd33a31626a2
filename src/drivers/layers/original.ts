/** What is kept of the archive that a layer was made of: see `archive/original-format.ts`. */
import { link, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerNumber } from '../../core/names.ts';
import { FailedPrecondition, NotFound } from '../../errors/errors.ts';
import { errorCode, fromNodeError } from '../../errors/from-errno.ts';
import type { OpenTree, View } from './archive/archiver.ts';
import { originalDirectory } from './archive/original-format.ts';
import { openDirectoryView } from './directory-view.ts';

/** Below the root. */
export function originalOf(number: LayerNumber): string {
  return `${number}/${originalDirectory}`;
}

/** Of a layer, which is closed when that fails. @throws FailedPrecondition when nothing was kept */
export async function openOriginal(tree: OpenTree): Promise<View> {
  const { directory } = tree;
  try {
    return await openDirectoryView(join(directory, originalDirectory));
  } catch (error) {
    await tree.close();
    if (!(error instanceof NotFound)) throw error;
    throw new FailedPrecondition(
      `the archive that the layer in ${directory} was made of was not kept; export its difference instead`,
    );
  }
}

/** Gives it to another layer directory of the same file system as well. @param from absolute, as `to` */
export async function linkOriginal(from: string, to: string): Promise<void> {
  const [source, target] = [join(from, originalDirectory), join(to, originalDirectory)];
  try {
    const names = await readdir(source).catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (names === undefined) return;
    await mkdir(target, { mode: 0o700 });
    for (const name of names) await link(join(source, name), join(target, name));
  } catch (error) {
    throw fromNodeError(error, `link ${source} to ${target}`);
  }
}
