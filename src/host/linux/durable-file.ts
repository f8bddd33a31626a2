import { randomBytes } from 'node:crypto';
import { closeSync, constants, fsync as fsyncCallback, openSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { fromNodeError } from '../../errors/from-errno.ts';
import { descriptorPath } from './safe-path.ts';

const fsync = promisify(fsyncCallback);

/**
 * Puts a whole file in place: written beside it, brought to the disk, moved over it, and the directory brought
 * to the disk as well, without which the move may be lost (fsync(2)). What a crash leaves is named `new-*`.
 * @param directory the opened directory @param options without `durable` a power cut may leave it empty
 */
export async function writeWhole(
  directory: number,
  name: string,
  text: string,
  { durable }: { readonly durable: boolean },
): Promise<void> {
  const temporary = descriptorPath(directory, `new-${randomBytes(8).toString('hex')}`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(text);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, descriptorPath(directory, name));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (durable) await fsync(directory);
}

/** Brings a directory's entries, or a directory itself, to the disk. */
export async function syncDirectory(directory: number): Promise<void> {
  await fsync(directory);
}

/** The same for a directory that is open as O_PATH only. */
export async function syncDirectoryAt(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fsync(fd);
  } catch (error) {
    throw fromNodeError(error, `sync ${path}`);
  } finally {
    closeSync(fd);
  }
}
