import { open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { fromNodeError } from '../../errors/from-errno.ts';
import { removeTree } from '../../host/linux/trees.ts';

/** Deletes an absolute path with all that is below it; a missing one is fine. @throws what `removeTree` throws */
export async function deleteDirectory(path: string): Promise<void> {
  const parent = await open(dirname(path), 'r').catch((error: unknown) => {
    throw fromNodeError(error, `open the directory ${dirname(path)}`);
  });
  await removeTree(parent.fd, basename(path)).finally(() => parent.close());
}
